#!/usr/bin/env bash
# Build the pinned MinIO server, which is published as source only, into the cache folder; once. Needs Go.
set -euo pipefail
version=v0.0.0-20260212201848-7aac2a2c5b7c # as in tests/support/s3_servers.py
folder="${XDG_CACHE_HOME:-$HOME/.cache}/delayline/tools/minio-$version"
if command -v minio >/dev/null || [ -x "$folder/minio" ]; then
  echo "MinIO is there already"
  exit 0
fi
command -v go >/dev/null || { echo "MinIO is built with Go: install Go 1.24 or later, or put minio on the PATH" >&2; exit 1; }
mkdir -p "$folder"
echo "building MinIO $version into $folder (3 to 7 minutes)"
partial=$(mktemp -d "$folder/partial.XXXXXX")
trap 'rm -rf "$partial"' EXIT
GOBIN="$partial" GOTOOLCHAIN=auto go install "github.com/minio/minio@$version"
mv "$partial/minio" "$folder/minio"
echo "built $folder/minio"
