from pathlib import Path

import numpy as np
from setuptools import Extension, setup

scan = Extension(
    "deepq._scan",
    sources=["deepq/_scan.pyx"],
    depends=sorted(map(str, Path("deepq").glob("*.h"))),
    include_dirs=[np.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
    # No -march and no -ffast-math: one binary for every machine, one answer on all of them.
    extra_compile_args=["-O3", "-ffp-contract=off"],
)
scan.cython_directives = {"language_level": 3}

setup(ext_modules=[scan])
