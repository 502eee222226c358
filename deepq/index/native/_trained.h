/* A faiss IndexPreTransform that Python trains, whoever calls its `train`.

   The object gets a table of virtual functions of its own, in which `train` takes the GIL and calls
   Python. `trained.py` explains it, and makes sure that this faiss calls the function as it is
   declared here. */
#pragma once

#include <Python.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "_python.h"
#include "_table.h"

namespace deepq {

enum Answer { TRAINED, NOBODY, FAILED };

/* Trains on n rows under the GIL; NOBODY if no index of ours has that object, and FAILED, and what
   went wrong. `_trained.pyx` sets it. */
using Train = Answer (*)(void *chain, int64_t n, const float *x, std::string &fault);
static Train train_in_python = nullptr;

static Table<1> table;

inline void train(void *chain, int64_t n, const float *x) {
    std::string fault = "the training failed";
    switch (python_runs() ? train_in_python(chain, n, x, fault) : NOBODY) {
        case TRAINED: return;
        case FAILED: throw std::runtime_error(fault);
        case NOBODY: break;
    }
    table.original<void (*)(void *, int64_t, const float *)>(0)(chain, n, x);
}

/* Make the table from that of an IndexPreTransform of faiss's; false if that is not as expected. */
inline bool prepare(const void *chain) {
    const Replacement training[1] = {{"_ZN5faiss17IndexPreTransform5trainElPKf", (void *)&train}};
    return table.make(chain, "_ZTVN5faiss17IndexPreTransformE", training);
}

inline void place(void *chain) { table.put_into(chain); }

}  // namespace deepq
