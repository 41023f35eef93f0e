// Holds a bill of materials against the shape of CycloneDX 1.5 as far as it is used here, and against Cargo.lock.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

const [, , billPath, lockPath] = process.argv;
const bill = JSON.parse(readFileSync(billPath, 'utf8'));
const lock = readFileSync(lockPath, 'utf8');

assert.deepEqual(Object.keys(bill), ['bomFormat', 'specVersion', 'version', 'metadata', 'components', 'dependencies']);
assert.equal(bill.bomFormat, 'CycloneDX');
assert.equal(bill.specVersion, '1.5');
assert.equal(bill.metadata.component.type, 'application');
assert.equal(bill.metadata.component.name, 'keybearer');
assert.ok(bill.components.length > 100, `${bill.components.length} components`);

const refs = new Set([bill.metadata.component, ...bill.components].map((component) => component['bom-ref']));
assert.equal(refs.size, bill.components.length + 1, 'no component twice');
for (const { type, name, version, purl, hashes, licenses } of bill.components) {
  assert.equal(type, 'library', purl);
  assert.equal(purl, `pkg:cargo/${name}@${version}`);
  assert.match(licenses[0].expression, /^[\w.()+ -]+$/, purl);
  assert.match(hashes[0].content, /^[0-9a-f]{64}$/, purl);
  assert.equal(hashes[0].alg, 'SHA-256', purl);
  assert.ok(lock.includes(`name = "${name}"\nversion = "${version}"\n`), `${purl} is not in ${lockPath}`);
  assert.ok(lock.includes(`checksum = "${hashes[0].content}"`), `${purl} has another hash in ${lockPath}`);
}
for (const { ref, dependsOn } of bill.dependencies) {
  assert.ok(refs.has(ref), ref);
  for (const other of dependsOn) assert.ok(refs.has(other), `${ref} needs ${other}`);
}
assert.ok(!refs.has([...refs].find((ref) => /^pkg:cargo\/(proptest|rcgen|gungraun)@/.test(ref))), 'no crate of the tests');
console.log(`${bill.components.length} components`);
