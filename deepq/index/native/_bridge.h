/* A faiss VectorTransform that hands vectors to a Python encoder.

   The base classes are declared as in faiss's VectorTransform.h, member for member, so that faiss's
   compiled code can use an object of ours and finds it by dynamic_cast, which compares names.
   faiss's headers are not needed and nothing of it is linked. `bridge.py` makes sure that the
   faiss in use has these very classes before any of this is called. */
#pragma once

#include <Python.h>
#include <dlfcn.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "_python.h"

namespace faiss {

struct VectorTransform {
    int d_in, d_out;
    bool is_trained;

    virtual void train(int64_t n, const float *x) = 0;
    virtual void apply_noalloc(int64_t n, const float *x, float *xt) const = 0;
    virtual void reverse_transform(int64_t n, const float *xt, float *x) const = 0;
    virtual void check_identical(const VectorTransform &other) const = 0;
    virtual ~VectorTransform() = default;
};

struct LinearTransform : VectorTransform {
    bool have_bias, is_orthonormal;
    std::vector<float> A, b;
    bool verbose;
};

}  // namespace faiss

namespace deepq {

struct Bridge;

/* Encodes (or decodes) n rows under the GIL; false, and what went wrong, if it cannot.
   `_bridge.pyx` sets it. */
using Run = bool (*)(const Bridge &bridge, bool encodes, int64_t n, const float *from, float *to,
                     std::string &fault);
inline Run run = nullptr;

struct Bridge final : faiss::LinearTransform {
    PyObject *encoder;  // a reference; read and changed under the GIL

    Bridge(PyObject *given, int from, int to) : encoder(given) {
        Py_INCREF(encoder);
        d_in = from;
        d_out = to;
        is_trained = have_bias = is_orthonormal = verbose = false;
    }

    Bridge(const Bridge &) = delete;
    Bridge &operator=(const Bridge &) = delete;

    ~Bridge() override { let_go(encoder); }

    void train(int64_t, const float *) override {
        throw std::runtime_error(
            "expected a trained encoder: call train() of the DeepQuantIndex itself, in Python");
    }

    void apply_noalloc(int64_t n, const float *x, float *xt) const override {
        call(true, n, x, xt);
    }

    void reverse_transform(int64_t n, const float *xt, float *x) const override {
        call(false, n, xt, x);
    }

    void check_identical(const faiss::VectorTransform &other) const override {
        auto same = [](const std::vector<float> &u, const std::vector<float> &v) {
            return u.size() == v.size() &&  // bit for bit: NaN is NaN
                   (u.empty() || !std::memcmp(u.data(), v.data(), u.size() * sizeof(float)));
        };
        auto twin = dynamic_cast<const Bridge *>(&other);
        if (!twin || d_in != twin->d_in || d_out != twin->d_out || !same(A, twin->A) ||
            !same(b, twin->b))
            throw std::runtime_error("expected the same encoder, got another");
    }

  private:
    void call(bool encodes, int64_t n, const float *from, float *to) const {
        if (n == 0) return;
        if (!python_runs()) throw std::runtime_error("expected Python to run, but it has ended");
        std::string fault = "the encoder failed";
        if (!run(*this, encodes, n, from, to, fault)) throw std::runtime_error(fault);
    }
};

/* Whether a native LinearTransform has the virtual functions declared above, in this order. */
inline bool has_functions(const void *transform) {
    static const char *const names[] = {
        "_ZN5faiss15VectorTransform5trainElPKf",
        "_ZNK5faiss15LinearTransform13apply_noallocElPKfPf",
        "_ZNK5faiss15LinearTransform17reverse_transformElPKfPf",
        "_ZNK5faiss15LinearTransform15check_identicalERKNS_15VectorTransformE",
    };
    void *const *function = *static_cast<void *const *const *>(transform);
    for (const char *name : names) {
        Dl_info found;
        if (!dladdr(*function++, &found) || !found.dli_sname || std::strcmp(found.dli_sname, name))
            return false;
    }
    return true;
}

}  // namespace deepq
