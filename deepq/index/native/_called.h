/* A faiss IndexPreTransform whose functions call Python, whoever calls them.

   The object gets a table of virtual functions of its own, in which those that train, add, search and
   reconstruct take the GIL and call an index of ours. `called.py` explains it, and makes sure that
   this faiss calls them as they are declared here, and that its classes are as they are declared. */
#pragma once

#include <Python.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <typeinfo>
#include <vector>

#include "_python.h"
#include "_table.h"

namespace faiss {

struct IDSelector {
    virtual bool is_member(int64_t id) const = 0;
    virtual ~IDSelector() {}
};

/* What an IDMap passes on: of a position it asks for the id that it has there. */
struct IDSelectorTranslated : IDSelector {
    const std::vector<int64_t> *id_map;
    const IDSelector *sel;
};

struct SearchParameters {
    IDSelector *sel;
    virtual ~SearchParameters() {}
};

struct SearchParametersPQ : SearchParameters {
    int search_type;
    int polysemous_ht;
};

struct SearchParametersPreTransform : SearchParameters {
    SearchParameters *index_params;
};

/* Of an IndexIVF, in faiss 1.14 and from 1.15 on. */
struct FirstParametersIVF : SearchParameters {
    size_t nprobe, max_codes;
    SearchParameters *quantizer_params;
    void *inverted_list_context;
};

struct SearchParametersIVF : SearchParameters {
    size_t nprobe, max_codes, max_lists_num;
    bool ensure_topk_full;
    size_t max_empty_result_buckets;
    SearchParameters *quantizer_params;
    void *inverted_list_context;
};

struct RangeSearchResult {
    size_t nq;
    size_t *lims;
    int64_t *labels;
    float *distances;
    size_t buffer_size;
    virtual void do_allocation() = 0; /* turns counts in `lims` into offsets, and makes room */
    virtual ~RangeSearchResult() {}
};

}  // namespace faiss

namespace deepq {

using faiss::IDSelector, faiss::SearchParameters, faiss::RangeSearchResult;

enum Answer { DONE, NOBODY, FAILED };

/* What Python does, under the GIL: NOBODY if no index of ours has that object, and FAILED, and what
   went wrong. `_called.pyx` sets them. */
struct Python {
    Answer (*train)(const void *chain, int64_t n, const float *x, std::string &fault);
    Answer (*add)(const void *chain, int64_t n, const float *x, std::string &fault);
    Answer (*add_with_ids)(const void *chain, int64_t n, const float *x, const int64_t *ids, std::string &fault);
    Answer (*search)(const void *chain, int64_t n, const float *x, int64_t k, float *D, int64_t *I,
                     const SearchParameters *params, std::string &fault);
    Answer (*range_search)(const void *chain, int64_t n, const float *x, float radius, RangeSearchResult *result,
                           const SearchParameters *params, std::string &fault);
    Answer (*reconstruct)(const void *chain, int64_t first, int64_t n, float *x, std::string &fault);
    Answer (*remove_ids)(const void *chain, const IDSelector *sel, size_t &count, std::string &fault);
    Answer (*merge_from)(const void *chain, const void *other, int64_t add_id, std::string &fault);
    Answer (*reset)(const void *chain, std::string &fault);
    bool (*take_back)(const void *chain); /* whether Python deletes it from now on */
};
static Python python;

enum Function {
    TRAIN,
    ADD,
    ADD_WITH_IDS,
    SEARCH,
    RANGE_SEARCH,
    RECONSTRUCT,
    RECONSTRUCT_N,
    REMOVE_IDS,
    MERGE_FROM,
    RESET,
    DESTROY,
    FUNCTIONS
};
static Table<FUNCTIONS> table;

/* Whether Python did it: if not, it is faiss's to do. */
template <class Call>
bool done(Call call) {
    std::string fault = "the call failed";
    const Answer answer = python_runs() ? call(fault) : NOBODY;
    if (answer == FAILED) throw std::runtime_error(fault);
    return answer == DONE;
}

inline void train(void *chain, int64_t n, const float *x) {
    if (done([&](std::string &fault) { return python.train(chain, n, x, fault); })) return;
    table.original<void (*)(void *, int64_t, const float *)>(TRAIN)(chain, n, x);
}

inline void add(void *chain, int64_t n, const float *x) {
    if (done([&](std::string &fault) { return python.add(chain, n, x, fault); })) return;
    table.original<void (*)(void *, int64_t, const float *)>(ADD)(chain, n, x);
}

inline void add_with_ids(void *chain, int64_t n, const float *x, const int64_t *ids) {
    if (done([&](std::string &fault) { return python.add_with_ids(chain, n, x, ids, fault); })) return;
    table.original<void (*)(void *, int64_t, const float *, const int64_t *)>(ADD_WITH_IDS)(chain, n, x, ids);
}

inline void search(const void *chain, int64_t n, const float *x, int64_t k, float *D, int64_t *I,
                   const SearchParameters *params) {
    if (done([&](std::string &fault) { return python.search(chain, n, x, k, D, I, params, fault); })) return;
    using Theirs = void (*)(const void *, int64_t, const float *, int64_t, float *, int64_t *, const SearchParameters *);
    table.original<Theirs>(SEARCH)(chain, n, x, k, D, I, params);
}

inline void range_search(const void *chain, int64_t n, const float *x, float radius, RangeSearchResult *result,
                         const SearchParameters *params) {
    if (done([&](std::string &fault) { return python.range_search(chain, n, x, radius, result, params, fault); }))
        return;
    using Theirs =
        void (*)(const void *, int64_t, const float *, float, RangeSearchResult *, const SearchParameters *);
    table.original<Theirs>(RANGE_SEARCH)(chain, n, x, radius, result, params);
}

inline void reconstruct(const void *chain, int64_t key, float *x) {
    if (done([&](std::string &fault) { return python.reconstruct(chain, key, 1, x, fault); })) return;
    table.original<void (*)(const void *, int64_t, float *)>(RECONSTRUCT)(chain, key, x);
}

inline void reconstruct_n(const void *chain, int64_t first, int64_t n, float *x) {
    if (done([&](std::string &fault) { return python.reconstruct(chain, first, n, x, fault); })) return;
    table.original<void (*)(const void *, int64_t, int64_t, float *)>(RECONSTRUCT_N)(chain, first, n, x);
}

inline size_t remove_ids(void *chain, const IDSelector &sel) {
    size_t count = 0;
    if (done([&](std::string &fault) { return python.remove_ids(chain, &sel, count, fault); })) return count;
    return table.original<size_t (*)(void *, const IDSelector &)>(REMOVE_IDS)(chain, sel);
}

inline void merge_from(void *chain, void *other, int64_t add_id) {
    if (done([&](std::string &fault) { return python.merge_from(chain, other, add_id, fault); })) return;
    table.original<void (*)(void *, void *, int64_t)>(MERGE_FROM)(chain, other, add_id);
}

inline void reset(void *chain) {
    if (done([&](std::string &fault) { return python.reset(chain, fault); })) return;
    table.original<void (*)(void *)>(RESET)(chain);
}

inline void destroy(void *chain) {
    if (python_runs() && python.take_back(chain)) return;
    table.original<void (*)(void *)>(DESTROY)(chain);
}

/* Make the table from that of an IndexPreTransform of faiss's; false if that is not as expected. */
inline bool prepare(const void *chain) {
    const Replacement ours[FUNCTIONS] = {
        {"_ZN5faiss17IndexPreTransform5trainElPKf", (void *)&train},
        {"_ZN5faiss17IndexPreTransform3addElPKf", (void *)&add},
        {"_ZN5faiss17IndexPreTransform12add_with_idsElPKfPKl", (void *)&add_with_ids},
        {"_ZNK5faiss17IndexPreTransform6searchElPKflPfPlPKNS_16SearchParametersE", (void *)&search},
        {"_ZNK5faiss17IndexPreTransform12range_searchElPKffPNS_17RangeSearchResultEPKNS_16SearchParametersE",
         (void *)&range_search},
        {"_ZNK5faiss17IndexPreTransform11reconstructElPf", (void *)&reconstruct},
        {"_ZNK5faiss17IndexPreTransform13reconstruct_nEllPf", (void *)&reconstruct_n},
        {"_ZN5faiss17IndexPreTransform10remove_idsERKNS_10IDSelectorE", (void *)&remove_ids},
        {"_ZN5faiss17IndexPreTransform10merge_fromERNS_5IndexEl", (void *)&merge_from},
        {"_ZN5faiss17IndexPreTransform5resetEv", (void *)&reset},
        {"_ZN5faiss17IndexPreTransformD0Ev", (void *)&destroy},
    };
    return table.make(chain, "_ZTVN5faiss17IndexPreTransformE", ours);
}

inline void place(void *chain) { table.put_into(chain); }

/* What parameters of a search are, by their class: of a chain, of an IndexPQ, of an IndexIVF, of any index. */
enum Kind { CHAIN, PQ, IVF, ANY, OTHER };

inline Kind kind_of(const SearchParameters *params) {
    const char *name = typeid(*params).name();
    if (!std::strcmp(name, "N5faiss28SearchParametersPreTransformE")) return CHAIN;
    if (!std::strcmp(name, "N5faiss18SearchParametersPQE")) return PQ;
    if (!std::strcmp(name, "N5faiss19SearchParametersIVFE") || !std::strcmp(name, "N5faiss21IVFPQSearchParametersE"))
        return IVF;
    return std::strcmp(name, "N5faiss16SearchParametersE") ? OTHER : ANY;
}

/* Copy parameters of an IndexIVF, of this faiss or of a `first` one. */
inline void copy_parameters(const SearchParameters *source, SearchParameters *target, bool first) {
    if (first)
        *static_cast<faiss::FirstParametersIVF *>(target) = *static_cast<const faiss::FirstParametersIVF *>(source);
    else
        *static_cast<faiss::SearchParametersIVF *>(target) = *static_cast<const faiss::SearchParametersIVF *>(source);
}

/* The ids that an IDMap has, if the selector is one that it passes on; else null. */
inline const std::vector<int64_t> *map_of(const IDSelector *sel) {
    if (std::strcmp(typeid(*sel).name(), "N5faiss20IDSelectorTranslatedE")) return nullptr;
    return static_cast<const faiss::IDSelectorTranslated *>(sel)->id_map;
}

/* Whether an IDMap passes on that there is no selector. */
inline bool is_of_none(const IDSelector *sel) {
    return map_of(sel) && !static_cast<const faiss::IDSelectorTranslated *>(sel)->sel;
}

/* Set the bits of the ids from `first`, a multiple of 8, to `last` - 1 that a selector picks. */
inline void mark_members(const IDSelector *sel, int64_t first, int64_t last, uint8_t *bits) {
    for (int64_t id = first; id < last; id += 8) {
        int byte = 0;
        for (int64_t i = 0; i < 8 && id + i < last; i++) byte |= sel->is_member(id + i) << i;
        bits[(id - first) / 8] = (uint8_t)byte;
    }
}

/* Set the bits of the listed ids that a selector picks; they are 0 before. */
inline void mark_listed(const faiss::IDSelector *sel, const int64_t *ids, int64_t n, uint8_t *bits) {
    for (int64_t i = 0; i < n; i++) bits[i / 8] = (uint8_t)(bits[i / 8] | sel->is_member(ids[i]) << i % 8);
}

}  // namespace deepq
