/* Python objects that C++ objects of faiss's hold, let go of by whatever thread deletes them. */
#pragma once

#include <Python.h>

namespace deepq {

inline bool python_runs() {
#if PY_VERSION_HEX >= 0x030D0000
    return Py_IsInitialized() && !Py_IsFinalizing();
#else
    return Py_IsInitialized() && !_Py_IsFinalizing();
#endif
}

inline void let_go(PyObject *object) {
    if (!python_runs()) return;
    PyGILState_STATE state = PyGILState_Ensure();
    Py_DECREF(object);
    PyGILState_Release(state);
}

}  // namespace deepq
