#!/bin/sh
# Take out of a virtual environment what no run needs: compilers' headers, test folders, Java, debug symbols, installers.
# usage: slim.sh VENV
set -eu
site=$(echo "$1"/lib/python3*/site-packages)

# Headers and static libraries, for those who compile against TensorFlow, NumPy or Arrow.
rm -rf "$site"/tensorflow/include "$site"/numpy/_core/include "$site"/pyarrow/include "$site"/pyarrow/src "$site"/clang
find "$site" \( -name '*.a' -o -name '*.h' -o -name '*.hpp' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.pyi' \) -type f -delete

# Ray's Java client and its C++ worker; no job is written in either.
rm -rf "$site"/ray/jars "$site"/ray/cpp "$site"/ray/rllib

# Tests that packages carry. Folders named `test` and modules named `testing` stay: they are part of TensorFlow's and NumPy's interface.
find "$site" -type d -name tests -prune -exec rm -rf {} +

# Symbols. What wheels carry in NAME.libs was moved there by patchelf: strip leaves files that the loader refuses (numpy's OpenBLAS).
# A library that strip cannot read stays as it is.
find "$site" -name '*.so*' -type f -not -path '*.libs/*' -exec sh -c 'strip --strip-unneeded "$1" 2>/dev/null || :' sh {} \;

# What is compiled anew afterwards.
find "$site" -name __pycache__ -type d -prune -exec rm -rf {} +
