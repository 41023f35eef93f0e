#!/usr/bin/env bash
# Counts instructions and holds them to benches/instructions.toml; `benches/gate.sh --update` writes them down instead.
# Needs valgrind; without it the gate is skipped, unless KEYBEARER_REQUIRE_TOOLS=1.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v valgrind >/dev/null; then
  echo "benches/gate.sh: SKIPPED: valgrind is not installed (apt-get install valgrind)" >&2
  [ "${KEYBEARER_REQUIRE_TOOLS:-0}" != 1 ]
  exit
fi

# gungraun works with a runner of its own version only.
version=$(sed -n '/^name = "gungraun-runner"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)
if [ "$(gungraun-runner --version 2>/dev/null)" != "gungraun-runner $version" ]; then
  cargo install --quiet --locked gungraun-runner --version "$version"
fi

results=target/benches
mkdir -p "$results"
cargo build --quiet --locked --release --bin keybearer
cargo run --quiet --locked --release --example functions -- --bench --output-format=json >"$results/functions.json"
cargo run --quiet --locked --example exchange -- \
  --proxy "${CARGO_TARGET_DIR:-target}/release/keybearer" --functions "$results/functions.json" "$@"
