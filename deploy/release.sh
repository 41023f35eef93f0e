#!/usr/bin/env bash
# Builds keybearer as it is released: twice, the second time with a profile of what the first did while proxying
# (profile-guided optimization). deploy/release.sh [FILE]: where to put the executable; target/release-pgo/keybearer
# otherwise. It needs `rustup component add llvm-tools` of the toolchain in use, and takes three times as long as
# `cargo build --release`, which differs in nothing but speed. What is newer than the sources is not built again.
set -euo pipefail
out=${1:-}
[ -z "$out" ] || [ "${out#/}" != "$out" ] || out=$PWD/$out
cd "$(dirname "$0")/.."
self=deploy/release.sh

target=${CARGO_TARGET_DIR:-target}/release-pgo
host=$(rustc -vV | sed -n 's/^host: //p')
profdata=$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata
if [ ! -x "$profdata" ]; then
  echo "deploy/release.sh: llvm-profdata is missing: rustup component add llvm-tools" >&2
  exit 1
fi
mkdir -p "$target"
target=$(cd "$target" && pwd)
built=$target/keybearer
out=${out:-$built}
finish() {
  [ "$out" -ef "$built" ] || install -D -m 0755 "$built" "$out"
  echo "$out" >&2
  exit
}
if [ -x "$built" ] && [ -z "$(find src benches/train .cargo Cargo.toml Cargo.lock "$self" -newer "$built" -print -quit)" ]; then
  finish
fi
profiles=$target/profiles
rm -rf "$profiles"

# With --target, so that the flags are for the program and not for what builds it; in folders of their own, so that
# neither build throws away what the other made.
build() {
  RUSTFLAGS="${RUSTFLAGS:-} $1" cargo build --release --locked --quiet --target "$host" --target-dir "$target/$2" --bin keybearer
}

echo "1/3  building what is to be profiled" >&2
build "-Cprofile-generate=$profiles" generate
echo "2/3  profiling it" >&2
cargo run --quiet --locked --example train -- "$target/generate/$host/release/keybearer"
"$profdata" merge --output="$target/merged.profdata" "$profiles"
echo "3/3  building the release" >&2
# cargo does not see that a profile has changed.
cargo clean --quiet --release --locked --package keybearer --target "$host" --target-dir "$target/use"
build "-Cprofile-use=$target/merged.profdata" use
install -m 0755 "$target/use/$host/release/keybearer" "$built"
finish
