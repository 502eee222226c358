#!/bin/sh
# Cross-build a wheel for aarch64 and run tests of it under qemu-user, on an x86-64 machine of Debian 12 (`make aarch64`).
#
# Needs gcc-aarch64-linux-gnu, g++-aarch64-linux-gnu and qemu-user-static. Python 3.11 for arm64 comes from Debian's
# packages and is unpacked into the folder; nothing of the machine is changed. Tests that need torch are left out.
set -eu
python=$1 folder=$(mkdir -p "$2" && cd "$2" && pwd) root=$(cd "$(dirname "$0")/../.." && pwd)
there=$folder/debian
name=_sysconfigdata__aarch64-linux-gnu

if [ ! -d "$there" ]; then
    mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial" "$folder/apt/state" "$folder/debs"
    : > "$folder/apt/status"
    cat > "$folder/apt/apt.conf" <<EOF
APT::Architecture "arm64";
APT::Architectures {"arm64";};
APT::Sandbox::User "root";
Dir::State "$folder/apt/state";
Dir::State::lists "$folder/apt/lists";
Dir::State::status "$folder/apt/status";
Dir::Cache "$folder/apt/cache";
EOF
    export APT_CONFIG="$folder/apt/apt.conf"
    apt-get update -qq
    (cd "$folder/debs" && apt-get download -qq python3.11-minimal libpython3.11-minimal libpython3.11-stdlib \
        libpython3.11-dev libpython3.11 libc6 libc6-dev libstdc++6 libgcc-s1 zlib1g libexpat1 libffi8 libbz2-1.0 \
        liblzma5 libssl3 libcrypt1 libuuid1)
    for package in "$folder"/debs/*.deb; do dpkg -x "$package" "$there"; done
fi

echo "== kernels, against plain loops"
aarch64-linux-gnu-gcc -O3 -ffp-contract=off -Wall -Wextra -Werror -Wno-unused-function -static -I"$root/deepq" \
    "$root/tests/scan/scan_driver.c" -o "$folder/scan_driver" -lm
qemu-aarch64-static "$folder/scan_driver"

echo "== the wheel"
rm -rf "$folder/settings" "$folder/dist" "$folder/site"
mkdir "$folder/settings"
cp "$there/usr/lib/python3.11/$name.py" "$folder/settings"
include="-I$there/usr/include/python3.11 -I$there/usr/include"
(cd "$root" && PYTHONPATH="$folder/settings" _PYTHON_HOST_PLATFORM=linux-aarch64 _PYTHON_SYSCONFIGDATA_NAME=$name \
    CFLAGS="$include" CXXFLAGS="$include" "$python" setup.py -q build --build-base "$folder/build" \
    bdist_wheel --bdist-dir "$folder/bdist" --dist-dir "$folder/built")
PATH="$(dirname "$python"):$PATH" auditwheel repair --wheel-dir "$folder/dist" "$folder"/built/*.whl

echo "== its environment"
"$python" -m pip install --quiet --target "$folder/site" --python-version 3.11 --only-binary :all: \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 \
    --platform manylinux2014_aarch64 --constraint "$root/constraints-dev.txt" \
    faiss-cpu numpy safetensors tqdm xxhash pytest pytest-timeout hypothesis threadpoolctl
"$python" -m pip install --quiet --target "$folder/site" --no-deps --platform manylinux_2_36_aarch64 \
    --platform manylinux_2_35_aarch64 --only-binary :all: --python-version 3.11 "$folder"/dist/*.whl

echo "== tests"
# Python under qemu, which tests start again as sys.executable. Without SVE: qemu's of Debian 12 computes it wrongly.
cat > "$folder/python" <<EOF
#!/bin/sh
exec qemu-aarch64-static -cpu cortex-a72 -L "$there" "$there/usr/bin/python3.11" "\$@"
EOF
chmod +x "$folder/python"
echo "import sys; sys.executable = '$folder/python'" > "$folder/site/sitecustomize.py"
rm -rf "$folder/tests"
cp -r "$root/tests" "$folder/tests"
cd "$folder"
export PYTHONPATH="$folder/site" OPENBLAS_NUM_THREADS=1
./python -m pytest -q -p no:cacheprovider -k "not dqn and not dsh and not cnnh and not own" \
    tests/files/test_golden.py tests/index/bridge tests/index/test_called.py tests/index/test_mapped.py \
    tests/index/cells/test_search.py
