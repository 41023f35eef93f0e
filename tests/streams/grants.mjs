// The tokens that the upstream takes: any, until it is told to take no more of those it has seen.

const seen = new Set();
const revoked = new Set();

export const counts = { accepted: 0, refused: 0 };

export function takes(authorization) {
  const token = /^Bearer (.+)$/.exec(authorization ?? '')?.[1];
  if (!token || revoked.has(token)) {
    counts.refused += 1;
    return false;
  }
  seen.add(token);
  counts.accepted += 1;
  return true;
}

export function revoke() {
  for (const token of seen) revoked.add(token);
  seen.clear();
}
