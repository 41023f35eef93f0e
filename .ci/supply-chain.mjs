// Reads what `cargo metadata` says about every dependency: where it comes from, under which licence, whether it is
// banned, whether it is there twice.
// Prints one line for each that may not be here, and fails if there is one.

import { readFileSync } from 'node:fs';

/** The lists of deny.toml, so that there is one place for them: texts of `key = [ … ]` in the table `[table]`. */
const rules = readFileSync(new URL('../deny.toml', import.meta.url), 'utf8');
function list(table, key) {
  const section = rules.split(/^\[/m).find((part) => part.startsWith(`${table}]`));
  const items = new RegExp(`^${key} = \\[([^]*?)\\]$`, 'm').exec(section)?.[1];
  if (items === undefined) throw new Error(`deny.toml has no ${table}.${key}`);
  const crates = [...items.matchAll(/crate = "([^"]*)"/g)];
  return [...(crates.length > 0 ? crates : items.matchAll(/"([^"]*)"/g))].map(([, text]) => text);
}
const LICENCES = new Set(list('licenses', 'allow'));
const BANNED = new Set(list('bans', 'deny'));
const SECOND_VERSIONS = new Set(list('bans', 'skip'));
if (LICENCES.size < 5 || BANNED.size < 3) throw new Error('the lists of deny.toml were not understood');

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

const [metadata, everything, built] = process.argv.slice(2).map((path) => readFileSync(path, 'utf8'));
const { packages, workspace_members: own } = JSON.parse(metadata);
/** The crates in what `cargo tree` printed, each once. The metadata have more, for features that nobody turned on. */
function crates(tree) {
  const known = new Map();
  for (const [all, name, version] of tree.matchAll(/^(\S+) v(\S+)/gm)) known.set(all, { name, version });
  return [...known.values()];
}
/** Those of them that are there in more than one version. */
function seconds(all) {
  const names = [...new Set(all.map(({ name }) => name))];
  return names.map((of) => all.filter(({ name }) => name === of)).filter(({ length }) => length > 1);
}
const problems = packages.filter(({ id }) => !own.includes(id)).flatMap(({ name, version, source, license }) => [
  ...(source?.startsWith('registry+') ? [] : [`${name} ${version} does not come from the registry`]),
  ...(license && allowed(license) ? [] : [`${name} ${version} has the licence ${license ?? 'of nobody knows'}`]),
]);
for (const { name, version } of crates(everything)) {
  if (BANNED.has(name)) problems.push(`${name} ${version} is banned`);
}

// A second version of a crate that is built has to be known; one that is known and gone leaves the list.
const short = ({ name, version }) => `${name}@${version.replace(/^(0\.\d+|[1-9]\d*).*$/, '$1')}`;
for (const all of seconds(crates(built))) {
  const unknown = all.filter((one) => !SECOND_VERSIONS.has(short(one)));
  if (unknown.length > 1) problems.push(`two versions: ${unknown.map(({ name, version }) => `${name} ${version}`).join(', ')}`);
}
const gone = new Set(SECOND_VERSIONS);
for (const one of seconds(crates(everything)).flat()) gone.delete(short(one));
for (const spared of gone) problems.push(`deny.toml spares ${spared}, of which there is no second version`);
for (const problem of problems) console.log(problem);
console.log(`${packages.length} packages looked at`);
process.exitCode = problems.length > 0 ? 1 : 0;
