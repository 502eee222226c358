from pathlib import Path

import numpy as np
from setuptools import Extension, setup

HEADERS = sorted(map(str, Path("deepq").glob("*.h")))

scan = Extension(
    "deepq._scan",
    sources=["deepq/_scan.pyx"],
    depends=HEADERS,
    include_dirs=[np.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
    # No -march and no -ffast-math: one binary for every machine, one answer on all of them.
    extra_compile_args=["-O3", "-ffp-contract=off"],
)
bridge, mapped = (
    Extension(
        f"deepq.{name}",
        sources=[f"deepq/{name}.pyx"],
        depends=HEADERS,
        language="c++",
        libraries=["dl"],
        # Hidden: what it declares in faiss's namespace must not stand in for faiss's own.
        extra_compile_args=["-std=c++17", "-O2", "-fvisibility=hidden"],
    )
    for name in ("_bridge", "_mapped")
)
extensions = [scan, bridge, mapped]
for extension in extensions:
    extension.cython_directives = {"language_level": 3}

setup(ext_modules=extensions)
