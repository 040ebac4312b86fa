// Writes the types of what the page asks: the parts of the manager's OpenAPI document that it uses, through
// openapi-typescript. Run by `cargo xtask ui --types`: node tools/types.mjs DOCUMENT OUTPUT

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import openapiTS, { astToString } from 'openapi-typescript';

const [documentPath, outputPath] = process.argv.slice(2);
if (!documentPath || !outputPath) throw new Error('usage: node tools/types.mjs DOCUMENT OUTPUT');

/** Everything that the page's sources say, to see which paths and shapes they name. */
const sources = readdirSync('src', { recursive: true, encoding: 'utf8' })
  .filter((name) => /\.tsx?$/.test(name) && !name.endsWith('schema.ts'))
  .map((name) => readFileSync(`src/${name}`, 'utf8'))
  .join('\n');

const document = JSON.parse(readFileSync(documentPath, 'utf8'));
const isNamed = (/** @type {string} */ text) => sources.includes(`'${text}'`);
document.paths = Object.fromEntries(
  Object.entries(document.paths)
    .filter(([path, item]) => isNamed(path) && item.get)
    // Names of operations are unique in their file of the manager only, and nothing here goes by them.
    .map(([path, item]) => [path, { get: { ...item.get, operationId: undefined } }]),
);

/** Shapes that what is kept refers to, and those that the sources name by themselves. */
const kept = new Set();
const follow = (/** @type {unknown} */ value) => {
  if (typeof value !== 'object' || value === null) return;
  for (const [key, inner] of Object.entries(value)) {
    if (key !== '$ref' || typeof inner !== 'string') {
      follow(inner);
      continue;
    }
    const name = inner.split('/').at(-1) ?? '';
    if (kept.has(name)) continue;
    kept.add(name);
    follow(document.components.schemas[name]);
  }
};
follow(document.paths);
for (const name of Object.keys(document.components.schemas).filter((it) =>
  sources.includes(`Schemas['${it}']`),
)) {
  follow({ $ref: name });
}
document.components = {
  schemas: Object.fromEntries(Object.entries(document.components.schemas).filter(([name]) => kept.has(name))),
};

const types = astToString(await openapiTS(document, { defaultNonNullable: false }));
writeFileSync(
  outputPath,
  `// Made from the manager's OpenAPI document by \`cargo xtask ui --types\`.\n\n${types}`,
);
