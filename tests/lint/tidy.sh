#!/bin/sh
# clang-tidy over our sources, as .clang-tidy configures it.
#   tests/lint/tidy.sh BUILD-DIRECTORY
set -u
build=$1
cd "$(dirname "$0")/../.." || exit 2
files=$(git ls-files 'vmm/*.c' 'record/*.c' 'replay/*.c' 'trace-format/*.c' 'tools/*.c' ':!tools/plugin/examples')
jobs=$(nproc)
echo "$files" | xargs -P "$jobs" -n 4 clang-tidy -quiet -p "$build" 2>/dev/null
