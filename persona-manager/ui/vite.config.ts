// How the page is built: one script, one style sheet, the outline of the world as data; nothing from another host.

import { readFileSync } from 'node:fs';
import { feature } from 'topojson-client';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';
import { outline } from './src/map/projection.ts';

/** The module that the map takes the world's outline from: Natural Earth's land, projected when the page is built. */
const WORLD = 'virtual:world';

function world(): Plugin {
  const own = `\0${WORLD}`;
  return {
    name: 'world',
    resolveId: (id) => (id === WORLD ? own : undefined),
    load: (id) => {
      if (id !== own) return undefined;
      const topology = JSON.parse(readFileSync('node_modules/world-atlas/land-110m.json', 'utf8'));
      const land = feature(
        topology,
        topology.objects.land,
      ) as unknown as GeoJSON.FeatureCollection<GeoJSON.MultiPolygon>;
      return `export const LAND = ${JSON.stringify(outline(land.features.flatMap((it) => it.geometry.coordinates)))};`;
    },
  };
}

export default defineConfig({
  base: '/ui/',
  plugins: [world()],
  build: {
    outDir: 'dist/page',
    emptyOutDir: true,
    target: 'es2022',
    // Data in a URL would need a wider policy than 'self'.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // What the licences of what is bundled ask for.
    license: { fileName: 'licences.md' },
  },
  test: { include: ['src/**/*.test.ts'] },
});
