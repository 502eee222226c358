/* A faiss IndexPQ whose codes are memory of somebody else's, which it must not change.

   Its vector of codes is a view (`_views.h`). So the index gets a table of virtual functions of its
   own: a copy of its class's, in which the functions that change codes throw, whoever calls them. */
#pragma once

#include "_table.h"
#include "_views.h"

namespace deepq {

enum Changing { ADD, ADD_CODES, REMOVE, MERGE, RESET, COUNT };

/* The table of IndexPQ and ours, and where that class has its codes; set once, by `prepare`. */
static Table<COUNT> table;
static size_t codes_offset;

inline faiss::Codes &codes_of(void *index) {
    return *reinterpret_cast<faiss::Codes *>(static_cast<char *>(index) + codes_offset);
}

/* faiss's own function, for codes that are not a view (any more). */
template <Changing which, class Result, class... Args>
Result changing(void *index, Args... args) {
    if (!codes_of(index).is_owned) refuse();
    return table.original<Result (*)(void *, Args...)>(which)(index, args...);
}

inline void reset(void *index) {
    faiss::Codes &codes = codes_of(index);
    if (!codes.is_owned) forget(codes);
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
    view(codes_of(index), memory, size, std::make_shared<Owner>(owner));
    table.put_into(index);
}

}  // namespace deepq
