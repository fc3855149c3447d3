#!/bin/sh
# llama.cpp's own benchmark on the same machine, in the same run as ours, so that the ratio of the two means something.
#
#   llama_cpp.sh LLAMA_BUILD_DIR MODEL.gguf [REPETITIONS]
#
# Prints one JSON array: 512 prompt tokens and 64 generated tokens, at 1 and at 2 threads, on the CPU, with llama.cpp's
# default settings. `avg_ts` is tokens per second, `samples_ts` each repetition; on a busy machine compare the best.
# It builds nothing and fetches nothing: LLAMA_BUILD_DIR holds bin/llama-bench.
set -eu
[ $# -ge 2 ] || { sed -n '2,4p' "$0" >&2; exit 2; }
exec "$1/bin/llama-bench" -m "$2" -p 512 -n 64 -t 1,2 -r "${3:-5}" -ngl 0 -o json
