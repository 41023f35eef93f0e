#!/usr/bin/env node
// Writes a bill of materials, CycloneDX 1.5 as JSON, of what is compiled into keybearer: every crate that a release
// build takes in on Linux, build scripts and macros too, tests not. Names, versions and licences from `cargo metadata`,
// hashes from Cargo.lock. The same sources give the same bytes: no time, no random serial number.
//
//     node deploy/sbom.mjs >keybearer.cdx.json

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const TARGETS = ['x86_64-unknown-linux-gnu', 'aarch64-unknown-linux-gnu'];
const filters = TARGETS.flatMap((target) => ['--filter-platform', target]);
const { packages, resolve } = JSON.parse(
  execFileSync('cargo', ['metadata', '--locked', '--format-version', '1', ...filters], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    stdio: ['ignore', 'pipe', 'inherit'],
  }),
);

/** What each crate needs for a build, tests left out: `kind` is null, "build" or "dev". */
const needs = new Map(
  resolve.nodes.map(({ id, deps }) => [
    id,
    deps.filter(({ dep_kinds: kinds }) => kinds.some(({ kind }) => kind !== 'dev')).map(({ pkg }) => pkg),
  ]),
);
const used = new Set([resolve.root]);
for (const id of used) for (const other of needs.get(id)) used.add(other);

const hashes = new Map(
  readFileSync(new URL('../Cargo.lock', import.meta.url), 'utf8')
    .split('[[package]]')
    .map((entry) => ['name', 'version', 'checksum'].map((key) => new RegExp(`^${key} = "(.*)"$`, 'm').exec(entry)?.[1]))
    .map(([name, version, checksum]) => [`${name}@${version}`, checksum]),
);

const purl = ({ name, version }) => `pkg:cargo/${name}@${version}`;
const byPurl = (one, other) => (one < other ? -1 : Number(one > other));
const component = (crate, type) => {
  const hash = hashes.get(`${crate.name}@${crate.version}`);
  return {
    type,
    'bom-ref': purl(crate),
    name: crate.name,
    version: crate.version,
    ...(hash ? { hashes: [{ alg: 'SHA-256', content: hash }] } : {}),
    // `/` is an older way to write OR.
    licenses: [{ expression: crate.license.replaceAll('/', ' OR ') }],
    purl: purl(crate),
  };
};

const crates = packages.filter(({ id }) => used.has(id));
const own = crates.find(({ id }) => id === resolve.root);
const byId = new Map(crates.map((crate) => [crate.id, purl(crate)]));
const bill = {
  bomFormat: 'CycloneDX',
  specVersion: '1.5',
  version: 1,
  metadata: { component: component(own, 'application') },
  components: crates
    .filter((crate) => crate !== own)
    .map((crate) => component(crate, 'library'))
    .sort((one, other) => byPurl(one.purl, other.purl)),
  dependencies: crates
    .map((crate) => ({ ref: purl(crate), dependsOn: [...new Set(needs.get(crate.id).map((id) => byId.get(id)))].sort(byPurl) }))
    .sort((one, other) => byPurl(one.ref, other.ref)),
};
process.stdout.write(`${JSON.stringify(bill, null, 2)}\n`);
