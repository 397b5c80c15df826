#!/usr/bin/env bash
# Generated code must be what its sources give: regenerated aside and compared, so that the tree is not touched.
set -eu
cd "$(dirname "$0")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
cp -r buf.yaml buf.gen.yaml "$fresh"
mkdir -p "$fresh/src/proto"
cp src/proto/*.proto "$fresh/src/proto"
(cd "$fresh" && buf generate)
for file in "$fresh"/src/proto/*_pb.*; do
    diff -u "src/proto/${file##*/}" "$file" || { echo "culvert: src/proto/${file##*/} is not what buf generates: run make gen" >&2; exit 1; }
done
node scripts/layout.ts --check
