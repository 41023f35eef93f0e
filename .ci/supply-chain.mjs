// Reads what `cargo metadata` says about every dependency: where it comes from and under which licence.
// Prints one line for each that may not be here, and fails if there is one.

import { readFileSync } from 'node:fs';

const LICENCES = new Set([
  'Apache-2.0', 'Apache-2.0 WITH LLVM-exception', 'MIT', 'MIT-0', 'BSD-2-Clause', 'BSD-3-Clause', 'BSL-1.0', 'ISC',
  'Unicode-3.0', 'Unlicense', 'Zlib', 'CC0-1.0', '0BSD', 'CDLA-Permissive-2.0',
]);

/** An SPDX expression of AND and OR over known names; the older `/` means OR. */
function allowed(expression) {
  const tokens = expression
    .replaceAll('/', ' OR ')
    .match(/[()]|[^\s()]+/g)
    .map((token) => (/^(and|or|with)$/i.test(token) ? token.toUpperCase() : token));
  let at = 0;
  const one = () => {
    if (tokens[at] === '(') {
      at += 1;
      const inner = any();
      at += 1;
      return inner;
    }
    let name = tokens[at];
    at += 1;
    if (tokens[at] === 'WITH') {
      name += ` WITH ${tokens[at + 1]}`;
      at += 2;
    }
    return LICENCES.has(name);
  };
  const all = () => {
    let good = one();
    while (tokens[at] === 'AND') {
      at += 1;
      good = one() && good;
    }
    return good;
  };
  const any = () => {
    let good = all();
    while (tokens[at] === 'OR') {
      at += 1;
      good = all() || good;
    }
    return good;
  };
  const good = any();
  return good && at === tokens.length;
}

const { packages, workspace_members: own } = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const problems = packages.filter(({ id }) => !own.includes(id)).flatMap(({ name, version, source, license }) => [
  ...(source?.startsWith('registry+') ? [] : [`${name} ${version} does not come from the registry`]),
  ...(license && allowed(license) ? [] : [`${name} ${version} has the licence ${license ?? 'of nobody knows'}`]),
]);
for (const problem of problems) console.log(problem);
console.log(`${packages.length} packages looked at`);
process.exitCode = problems.length > 0 ? 1 : 0;
