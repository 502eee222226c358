/* A faiss IndexIVFPQ whose lists are memory of somebody else's, which it must not change.

   The vectors of its ArrayInvertedLists are views (`_views.h`). Two objects get tables of virtual
   functions of their own: the lists, where the functions that change one throw while it is a view,
   and the index, where those that change lists throw before anything is done: some of faiss's go
   through lists in several threads, which no exception can leave. A list that is emptied lets go of
   its view, so `reset`, and merging from it, are possible. */
#pragma once

#include "_table.h"
#include "_views.h"

namespace deepq {

enum ChangingList { ADD_ENTRIES, UPDATE_ENTRIES, RESIZE, OF_LISTS };
enum ChangingIndex { ADD, ADD_IDS, ADD_CORE, ADD_CODES, REMOVE, UPDATE, MERGE, OF_INDEX };

/* The tables of the two classes and ours, and where they have their members; set by `prepare`. */
static Table<OF_LISTS> list_table;
static Table<OF_INDEX> index_table;
static size_t codes_offset, ids_offset, lists_offset;

template <class T>
T &member(const void *object, size_t offset) {
    return *reinterpret_cast<T *>(const_cast<char *>(static_cast<const char *>(object)) + offset);
}

inline std::vector<faiss::Codes> &codes_of(const void *lists) {
    return member<std::vector<faiss::Codes>>(lists, codes_offset);
}

inline std::vector<faiss::Ids> &ids_of(const void *lists) {
    return member<std::vector<faiss::Ids>>(lists, ids_offset);
}

inline bool is_view(const void *lists, size_t list) {
    return list < codes_of(lists).size() && !codes_of(lists)[list].is_owned;
}

/* faiss's own function, for a list that is not a view (any more). */
template <ChangingList which, class Result, class... Args>
Result changing_list(void *lists, size_t list, Args... args) {
    if (is_view(lists, list)) refuse();
    return list_table.original<Result (*)(void *, size_t, Args...)>(which)(lists, list, args...);
}

inline void resize(void *lists, size_t list, size_t size) {
    if (is_view(lists, list)) {
        if (size) refuse();
        forget(codes_of(lists)[list]);
        forget(ids_of(lists)[list]);
    }
    list_table.original<void (*)(void *, size_t, size_t)>(RESIZE)(lists, list, size);
}

/* Whether a list of an index is a view; none is before `prepare`. */
inline bool is_mapped(const void *index) {
    if (!lists_offset) return false;
    const void *lists = member<void *>(index, lists_offset);
    if (!lists || !list_table.is_in(lists)) return false;
    for (const faiss::Codes &codes : codes_of(lists))
        if (!codes.is_owned) return true;
    return false;
}

/* faiss's own function, for an index without a view. */
template <ChangingIndex which, class Result, class... Args>
Result changing(void *index, Args... args) {
    if (is_mapped(index)) refuse();
    return index_table.original<Result (*)(void *, Args...)>(which)(index, args...);
}

/* Make the tables from those of objects of faiss's; false if these are not as expected. */
inline bool prepare(const void *index, const void *lists, size_t codes_at, size_t ids_at, size_t lists_at) {
    const Replacement of_lists[OF_LISTS] = {
        {"_ZN5faiss18ArrayInvertedLists11add_entriesEmmPKlPKh",
         (void *)&changing_list<ADD_ENTRIES, size_t, size_t, const int64_t *, const uint8_t *>},
        {"_ZN5faiss18ArrayInvertedLists14update_entriesEmmmPKlPKh",
         (void *)&changing_list<UPDATE_ENTRIES, void, size_t, size_t, const int64_t *, const uint8_t *>},
        {"_ZN5faiss18ArrayInvertedLists6resizeEmm", (void *)&resize},
    };
    const Replacement of_index[OF_INDEX] = {
        {"_ZN5faiss8IndexIVF3addElPKf", (void *)&changing<ADD, void, int64_t, const float *>},
        {"_ZN5faiss8IndexIVF12add_with_idsElPKfPKl",
         (void *)&changing<ADD_IDS, void, int64_t, const float *, const int64_t *>},
        {"_ZN5faiss10IndexIVFPQ8add_coreElPKfPKlS4_Pv",
         (void *)&changing<ADD_CORE, void, int64_t, const float *, const int64_t *, const int64_t *, void *>},
        {"_ZN5faiss8IndexIVF12add_sa_codesElPKhPKl",
         (void *)&changing<ADD_CODES, void, int64_t, const uint8_t *, const int64_t *>},
        {"_ZN5faiss8IndexIVF10remove_idsERKNS_10IDSelectorE", (void *)&changing<REMOVE, size_t, const void *>},
        {"_ZN5faiss8IndexIVF14update_vectorsEiPKlPKf",
         (void *)&changing<UPDATE, void, int, const int64_t *, const float *>},
        {"_ZN5faiss8IndexIVF10merge_fromERNS_5IndexEl", (void *)&changing<MERGE, void, void *, int64_t>},
    };
    if (!list_table.make(lists, "_ZTVN5faiss18ArrayInvertedListsE", of_lists) ||
        !index_table.make(index, "_ZTVN5faiss10IndexIVFPQE", of_index))
        return false;
    codes_offset = codes_at, ids_offset = ids_at, lists_offset = lists_at;
    return true;
}

/* Make memory the lists of an empty IndexIVFPQ, which keeps `owner` alive as long as it uses it. */
inline void place(void *index, uint8_t *memory, const int64_t *ids_at, const int64_t *codes_at, const int64_t *sizes,
                  size_t code_size, PyObject *owner) {
    void *lists = member<void *>(index, lists_offset);
    std::shared_ptr<faiss::MaybeOwnedVectorOwner> shared = std::make_shared<Owner>(owner);
    for (size_t list = 0; list < codes_of(lists).size(); list++) {
        view(codes_of(lists)[list], memory + codes_at[list], sizes[list] * code_size, shared);
        view(ids_of(lists)[list], reinterpret_cast<int64_t *>(memory + ids_at[list]), size_t(sizes[list]), shared);
    }
    list_table.put_into(lists);
    index_table.put_into(index);
}

}  // namespace deepq
