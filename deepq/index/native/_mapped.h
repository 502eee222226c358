/* A faiss IndexPQ whose codes are memory of somebody else's, which it must not change.

   faiss's vector of codes can be a view, which cannot grow. So an index
   gets a table of virtual functions of its own: a copy of its class's, in which the functions that
   change codes throw, whoever calls them. A copy of the vector would lack that table, so copying
   throws as well: the storage of its own that a view does not use claims a size that no allocation
   can have.

   faiss's headers are not needed and nothing of it is linked. `mapped.py` makes sure that the vector
   is what is declared here. */
#pragma once

#include <Python.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "_python.h"
#include "_table.h"

namespace faiss {

struct MaybeOwnedVectorOwner {
    virtual ~MaybeOwnedVectorOwner() = default;
};

struct Codes {  // MaybeOwnedVector<uint8_t>
    bool is_owned;
    std::vector<uint8_t> owned_data;
    uint8_t *view_data;
    size_t view_size;
    std::shared_ptr<MaybeOwnedVectorOwner> owner;
    uint8_t *c_ptr;
    size_t c_size;
};

}  // namespace faiss

namespace deepq {

struct Owner final : faiss::MaybeOwnedVectorOwner {
    PyObject *memory;  // a reference

    explicit Owner(PyObject *given) : memory(given) { Py_INCREF(memory); }
    ~Owner() override { let_go(memory); }
};

enum Changing { ADD, ADD_CODES, REMOVE, MERGE, RESET, COUNT };

/* The table of IndexPQ and ours, and where that class has its codes; set once, by `prepare`. */
static Table<COUNT> table;
static size_t codes_offset;

inline faiss::Codes &codes_of(void *index) {
    return *reinterpret_cast<faiss::Codes *>(static_cast<char *>(index) + codes_offset);
}

/* Let the unused vector of a view claim a size, or none; it has no memory in either case. */
inline void claim(std::vector<uint8_t> &unused, size_t size) {
    uint8_t *const ends[3] = {nullptr, reinterpret_cast<uint8_t *>(size), nullptr};
    static_assert(sizeof(ends) == sizeof(unused), "a vector is three pointers");
    std::memcpy(static_cast<void *>(&unused), ends, sizeof(ends));
}

/* faiss's own function, for codes that are not a view (any more). */
template <Changing which, class Result, class... Args>
Result changing(void *index, Args... args) {
    if (!codes_of(index).is_owned)
        throw std::runtime_error(
            "expected an index in memory to change, got one mapped from a file: "
            "copy.copy(index) is in memory, and so is what is added after reset()");
    return table.original<Result (*)(void *, Args...)>(which)(index, args...);
}

inline void reset(void *index) {
    faiss::Codes &codes = codes_of(index);
    if (!codes.is_owned) {
        codes.is_owned = true;
        claim(codes.owned_data, 0);
        codes.c_ptr = codes.view_data = nullptr;
        codes.c_size = codes.view_size = 0;
        codes.owner.reset();
    }
    table.take_from(index);
    table.original<void (*)(void *)>(RESET)(index);
}

/* Make the table from that of an IndexPQ of faiss's; false if that is not as expected. */
inline bool prepare(const void *index, size_t offset) {
    const Replacement changes[COUNT] = {
        {"_ZN5faiss14IndexFlatCodes3addElPKf", (void *)&changing<ADD, void, int64_t, const float *>},
        {"_ZN5faiss14IndexFlatCodes12add_sa_codesElPKhPKl",
         (void *)&changing<ADD_CODES, void, int64_t, const uint8_t *, const int64_t *>},
        {"_ZN5faiss14IndexFlatCodes10remove_idsERKNS_10IDSelectorE",
         (void *)&changing<REMOVE, size_t, const void *>},
        {"_ZN5faiss14IndexFlatCodes10merge_fromERNS_5IndexEl",
         (void *)&changing<MERGE, void, void *, int64_t>},
        {"_ZN5faiss14IndexFlatCodes5resetEv", (void *)&reset},
    };
    if (!table.make(index, "_ZTVN5faiss7IndexPQE", changes)) return false;
    codes_offset = offset;
    return true;
}

/* Make memory the codes of an empty IndexPQ, which keeps `owner` alive as long as it uses it. */
inline void place(void *index, uint8_t *memory, size_t size, PyObject *owner) {
    faiss::Codes &codes = codes_of(index);
    codes.owner = std::make_shared<Owner>(owner);
    std::vector<uint8_t>().swap(codes.owned_data);
    claim(codes.owned_data, PTRDIFF_MAX);
    codes.is_owned = false;
    codes.c_ptr = codes.view_data = memory;
    codes.c_size = codes.view_size = size;
    table.put_into(index);
}

}  // namespace deepq
