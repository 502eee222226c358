/* Vectors of faiss's that are views of memory of somebody else's, which a Python object keeps.

   A view cannot grow, and a copy of one would be another; so copying throws: the storage of its own
   that a view does not use claims a size that no allocation can have.

   faiss's headers are not needed and nothing of it is linked. `mapped.py` and `lists.py` make sure
   that a vector is what is declared here. */
#pragma once

#include <Python.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "_python.h"

namespace faiss {

struct MaybeOwnedVectorOwner {
    virtual ~MaybeOwnedVectorOwner() = default;
};

template <class T>
struct MaybeOwnedVector {
    bool is_owned;
    std::vector<T> owned_data;
    T *view_data;
    size_t view_size;
    std::shared_ptr<MaybeOwnedVectorOwner> owner;
    T *c_ptr;
    size_t c_size;
};

using Codes = MaybeOwnedVector<uint8_t>;
using Ids = MaybeOwnedVector<int64_t>;

}  // namespace faiss

namespace deepq {

struct Owner final : faiss::MaybeOwnedVectorOwner {
    PyObject *memory;  // a reference

    explicit Owner(PyObject *given) : memory(given) { Py_INCREF(memory); }
    ~Owner() override { let_go(memory); }
};

[[noreturn]] inline void refuse() {
    throw std::runtime_error(
        "expected an index in memory to change, got one mapped from a file: "
        "copy.copy(index) is in memory, and so is what is added after reset()");
}

/* Let the unused vector of a view claim a size, or none; it has no memory in either case. */
template <class T>
void claim(std::vector<T> &unused, size_t size) {
    T *const ends[3] = {nullptr, reinterpret_cast<T *>(size), nullptr};
    static_assert(sizeof(ends) == sizeof(unused), "a vector is three pointers");
    std::memcpy(static_cast<void *>(&unused), ends, sizeof(ends));
}

/* Make a vector a view of `size` items. */
template <class T>
void view(faiss::MaybeOwnedVector<T> &vector, T *memory, size_t size,
          const std::shared_ptr<faiss::MaybeOwnedVectorOwner> &owner) {
    vector.owner = owner;
    std::vector<T>().swap(vector.owned_data);
    claim(vector.owned_data, PTRDIFF_MAX / sizeof(T) * sizeof(T));
    vector.is_owned = false;
    vector.c_ptr = vector.view_data = memory;
    vector.c_size = vector.view_size = size;
}

/* Make a view an empty vector. */
template <class T>
void forget(faiss::MaybeOwnedVector<T> &vector) {
    vector.is_owned = true;
    claim(vector.owned_data, 0);
    vector.c_ptr = vector.view_data = nullptr;
    vector.c_size = vector.view_size = 0;
    vector.owner.reset();
}

/* Let a vector of its own memory take `more` items: where it must move, to a sixteenth more room than
   it has. faiss would double it. */
template <class T>
void make_room(faiss::MaybeOwnedVector<T> *vector, size_t more) {
    if (!vector->is_owned) return;
    const size_t needed = vector->owned_data.size() + more, room = vector->owned_data.capacity();
    if (needed <= room) return;
    vector->owned_data.reserve(std::max(needed, room + room / 16));
    vector->c_ptr = vector->owned_data.data();
}

}  // namespace deepq
