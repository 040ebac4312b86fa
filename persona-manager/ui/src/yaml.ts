// Documents as people write them.

/** A document as people write it: YAML, where plain text needs no quotes. */
export function yaml(value: unknown, indent = ''): string {
  if (Array.isArray(value)) {
    if (value.length === 0) return ' []\n';
    if (value.every((it) => typeof it !== 'object' || it === null))
      return ` [${value.map(scalar).join(', ')}]\n`;
    const items = value.map((it) => `${indent}-${yaml(it, `${indent}  `).replace(/^\n\s*/, ' ')}`);
    return `\n${items.join('')}`;
  }
  if (typeof value === 'object' && value !== null) {
    const lines = Object.entries(value).map(([key, it]) => `${indent}${key}:${yaml(it, `${indent}  `)}`);
    if (lines.length === 0) return ' {}\n';
    return `\n${lines.join('')}`.slice(indent === '' ? 1 : 0);
  }
  return ` ${scalar(value)}\n`;
}

function scalar(value: unknown): string {
  if (typeof value !== 'string') return JSON.stringify(value);
  const isPlain =
    /^[A-Za-z_./][\w ./%()-]*$/.test(value) && !/^(true|false|null|yes|no|on|off|~)$/i.test(value);
  return isPlain ? value : JSON.stringify(value);
}
