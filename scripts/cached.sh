#!/usr/bin/env bash
# cached.sh OUTPUT INPUT... -- COMMAND...
# Runs COMMAND, which makes OUTPUT (a file or a directory), unless an OUTPUT made of the same inputs (files, or directories as a whole),
# the same command, compiler and architecture is in the cache; then that is copied. The key is the content, so a fresh clone builds as fast as a warm tree.
set -eu
output=$1
shift
inputs=()
while [ "$1" != -- ]; do
    inputs+=("$1")
    shift
done
shift

key=$({
    echo "$*"
    uname -m
    ${CXX:-g++} --version
    find "${inputs[@]}" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
} | sha256sum | cut -c1-32)
kept=$BUILD_CACHE/${output##*/}-$key

if [ -e "$output" ] && [ "$(cat "$output.key" 2>/dev/null)" = "$key" ]; then
    exit 0
fi
mkdir -p "${output%/*}" "$BUILD_CACHE"
if [ -e "$kept" ]; then
    # Never into a file that somebody runs, or a directory that is there.
    rm -rf "$output"
    cp -r "$kept" "$output"
    touch "$kept"
else
    "$@"
    # A failed or interrupted copy must never be found under the key.
    cp -r "$output" "$kept.$$" && mv "$kept.$$" "$kept"
    # Whatever was not used for a month goes.
    find "$BUILD_CACHE" -mindepth 1 -maxdepth 1 -mtime +30 -exec rm -rf {} +
fi
echo "$key" >"$output.key"
