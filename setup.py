import sys
import sysconfig
from pathlib import Path

import numpy as np
from setuptools import Extension, setup

HARDENED, LINKED = [], []
if sys.platform == "linux":
    HARDENED = ["-fstack-protector-strong", "-fstack-clash-protection"]
    HARDENED += ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=3", "-D_GLIBCXX_ASSERTIONS"]
    LINKED = ["-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack"]
    machine = sysconfig.get_platform()  # where it will run, in a cross-build as well
    if machine.endswith("x86_64"):
        HARDENED += ["-fcf-protection=full"]
    if machine.endswith("aarch64"):
        HARDENED += ["-mbranch-protection=standard"]

HEADERS = sorted(map(str, Path("deepq").rglob("*.h")))

kernels = [
    Extension(
        f"deepq.{name}",
        sources=[f"deepq/{name}.pyx"],
        depends=HEADERS,
        include_dirs=[np.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        # No -march and no -ffast-math: one binary for every machine, one answer on all of them.
        extra_compile_args=["-O3", "-ffp-contract=off"],
    )
    for name in ("_scan", "_cells", "_decode")
]
native = [
    Extension(
        f"deepq.index.native.{name}",
        sources=[f"deepq/index/native/{name}.pyx"],
        depends=HEADERS,
        language="c++",
        libraries=["dl"],
        # Hidden: what it declares in faiss's namespace must not stand in for faiss's own.
        extra_compile_args=["-std=c++17", "-O2", "-fvisibility=hidden"],
    )
    for name in ("_bridge", "_called", "_mapped", "_mapped_lists")
]
extensions = [*kernels, *native]
for extension in extensions:
    extension.cython_directives = {"language_level": 3}
    extension.extra_compile_args += ["-g0", *HARDENED]  # Python's own flags ask for debug symbols
    extension.extra_link_args += LINKED

setup(ext_modules=extensions)
