#!/bin/sh
# Cross-compiles the tests of csrc/digest.c and csrc/crc32c.c for AArch64 and runs them under user-mode emulation.
# The ARMv8 engines must be there and are tested with the portable ones. Exit status: 0 all passed, 1 a test or the
# build failed, 77 a tool is missing. Installs nothing; on Debian the tools are
#
#     apt install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
#
# ARM_CC and QEMU name other tools.
set -eu

compiler=${ARM_CC:-aarch64-linux-gnu-gcc}
emulator=${QEMU:-qemu-aarch64}
cd "$(dirname "$0")/../.."

for tool in "$compiler" "$emulator"; do
    if ! command -v "$tool" >/dev/null; then
        echo "skipped: $tool is missing (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)"
        exit 77
    fi
done

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

for name in digest crc32c; do
    echo "build: $compiler tests/c/test_$name.c csrc/$name.c"
    "$compiler" -std=c11 -O2 -g -Wall -Wextra -Werror -static -pthread -Icsrc -Itests/c \
        -o "$folder/test_$name" "tests/c/test_$name.c" "csrc/$name.c" || exit 1
    echo "run: $emulator -cpu max test_$name armv8"
    "$emulator" -cpu max "$folder/test_$name" armv8 || exit 1
done
