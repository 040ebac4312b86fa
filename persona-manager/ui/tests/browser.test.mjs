// The page as people use it, in headless Chromium. `cargo xtask test --ui` runs this beside a manager with a fleet and says
// by variables where all of it is.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { request } from 'node:https';
import { after, before, test } from 'node:test';
import { connect } from 'node:tls';
import axe from 'axe-core';
import { chromium } from 'playwright-core';

/** @param {string} name */
function variable(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run \`cargo xtask test --ui\``);
  return value;
}

const url = new URL(variable('PERSONA_URL'));
const roots = readFileSync(variable('PERSONA_ROOTS'));

/** Where pictures of the views go. None: nobody looks at them. */
const pictures = process.env.PERSONA_PICTURES;

/** How long anything that is waited for may take, milliseconds. */
const PATIENCE = 30_000;

/** @type {import('playwright-core').Browser} */
let browser;

/** What pages said that they should not: errors, breaches of the policy, requests to others. */
/** @type {string[]} */
const complaints = [];

/** The digest of the manager's key, as its certificate verifies under the fleet's root: the one key that Chromium takes. */
function keyDigest() {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: url.hostname, port: Number(url.port), ca: roots, servername: '' }, () => {
      const key = socket.getPeerX509Certificate()?.publicKey.export({ type: 'spki', format: 'der' });
      socket.end();
      resolve(
        createHash('sha256')
          .update(key ?? '')
          .digest('base64'),
      );
    });
    socket.on('error', reject);
  });
}

/**
 * Asks the manager as a program does.
 * @param {string} method @param {string} path @param {unknown} [body]
 * @returns {Promise<{ status: number, body: any }>}
 */
function api(method, path, body) {
  const headers = {
    authorization: `Bearer ${variable('PERSONA_ADMIN')}`,
    'if-match': '*',
    'content-type': 'application/json',
  };
  return new Promise((resolve, reject) => {
    const asked = request(new URL(path, url), { method, headers, ca: roots }, (answer) => {
      let text = '';
      answer.on('data', (part) => {
        text += part;
      });
      answer.on('end', () =>
        resolve({ status: answer.statusCode ?? 0, body: text ? JSON.parse(text) : null }),
      );
    });
    asked.on('error', reject);
    asked.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** A browser of somebody's own. @param {import('playwright-core').BrowserContextOptions} [options] */
async function someone(options) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  context.setDefaultTimeout(PATIENCE);
  await context.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => {
      console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`);
    });
  });
  const page = await context.newPage();
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('request', (asked) => {
    if (!asked.url().startsWith(url.origin)) complaints.push(`asks ${asked.url()}`);
  });
  return page;
}

/** Logs in by pasting a token. @param {import('playwright-core').Page} page @param {string} token */
async function paste(page, token) {
  await page.goto(`${url.origin}/ui/`);
  await page.getByLabel('Or paste an access token').fill(token);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('heading', { level: 1, name: 'Fleet' }).waitFor();
}

/** Nothing may have been said that should not. The refusals that a test provokes are named by it. @param {RegExp} [but] */
function nothingElseWasSaid(but) {
  const rest = complaints.splice(0).filter((it) => !but?.test(it));
  assert.deepEqual(rest, []);
}

before(async () => {
  const key = await keyDigest();
  browser = await chromium.launch({
    executablePath: variable('PERSONA_CHROMIUM'),
    args: [`--ignore-certificate-errors-spki-list=${key}`, '--disable-gpu'],
  });
  if (pictures) mkdirSync(pictures, { recursive: true });
});

after(() => browser?.close());

/** The operator, who came by the link. @type {import('playwright-core').Page} */
let olga;

test('a link logs in once, and leaves nothing of its secret', async () => {
  olga = await someone();
  await olga.goto(variable('PERSONA_LINK'));
  await olga.getByRole('heading', { level: 1, name: 'Fleet' }).waitFor();
  assert.equal(olga.url(), `${url.origin}/ui/`);
  const [cookie, ...others] = await olga.context().cookies();
  assert.ok(cookie?.httpOnly && cookie.secure && cookie.sameSite === 'Strict', JSON.stringify(cookie));
  assert.equal(others.length, 0);
  assert.equal(await olga.evaluate(() => document.cookie), '');
  nothingElseWasSaid(/401/);

  const again = await someone();
  await again.goto(variable('PERSONA_LINK'));
  await again.getByRole('alert').filter({ hasText: 'it was used' }).waitFor();
  assert.ok(!again.url().includes('#'));
  await again.context().close();
  nothingElseWasSaid(/401/);
});

test('the fleet is on the map and in words', async () => {
  await olga.getByRole('link', { name: /Edges up 22 of 23/ }).waitFor();
  const place = olga.getByRole('button', { name: /^New York, US: 3 edges, 1 down/ });
  await place.focus();
  await olga.keyboard.press('Enter');
  await olga.getByRole('heading', { level: 3, name: 'New York, US' }).waitFor();
  await olga.getByRole('region', { name: 'Needs somebody' }).getByText('edge nyc2').waitFor();
  await olga.getByRole('region', { name: 'Needs somebody' }).getByText('workload/node-war1/legacy').waitFor();
  nothingElseWasSaid();
});

test('an explanation shows every persona and edge, refusals and what would change them', async () => {
  await olga.getByRole('link', { name: 'Workloads', exact: true }).click();
  await olga.getByRole('link', { name: 'node-fra1/web' }).click();
  await olga.getByRole('heading', { level: 1, name: 'workload/node-fra1/web' }).waitFor();
  assert.equal(
    await olga.evaluate(() => document.activeElement?.tagName),
    'H1',
    'a new view begins at its heading',
  );
  const personas = olga.getByRole('list', { name: 'Personas considered' });
  await personas.getByText('chosen').waitFor();
  assert.ok((await personas.getByRole('link').count()) >= 3);
  const told = await api('GET', '/v1/explain/workload/node-fra1/web');
  assert.equal(told.status, 200);
  for (const { persona, refusals, hint } of told.body.considered) {
    await personas.getByRole('link', { name: persona, exact: true }).waitFor();
    for (const text of [...refusals, ...(hint ? [hint] : [])])
      await personas.getByText(text).first().waitFor();
  }
  await olga.getByRole('list', { name: 'Edges considered' }).getByText('fra').first().waitFor();
  nothingElseWasSaid();
});

test('somebody switches and takes it back, after being asked', async () => {
  await olga.getByRole('button', { name: 'Switch' }).click();
  const dialog = olga.getByRole('dialog', { name: 'Switch workload/node-fra1/web' });
  await dialog.waitFor();
  await olga.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
  await olga.getByRole('button', { name: 'Switch' }).click();
  await dialog.getByLabel('Persona').selectOption('iberia');
  await dialog.getByLabel('For').selectOption('1 hour');
  await dialog.getByRole('button', { name: 'Switch' }).click();
  await olga.locator('p.done').getByText('was switched to iberia').waitFor();
  await olga.getByRole('cell', { name: 'a person' }).first().waitFor();
  await olga.getByRole('button', { name: 'Release' }).click();
  await olga.getByRole('dialog').getByRole('button', { name: 'Release' }).click();
  await olga.locator('p.done').getByText('was taken back').waitFor();
  await olga.getByRole('button', { name: 'Release' }).waitFor({ state: 'hidden' });
  const { body } = await api('GET', '/v1/workloads/node-fra1/web');
  assert.notEqual(body.assignment.sections.network.layer, 'manual');
  nothingElseWasSaid();
});

test('what happens is seen as it happens, and an edge is drained and comes back', async () => {
  await olga.getByRole('link', { name: 'Events', exact: true }).click();
  await olga.getByText(/live, \d+ of \d+/).waitFor();
  const list = olga.locator('ol.events');
  await list.getByText('switch.taken-back').first().waitFor();
  assert.equal((await api('POST', '/v1/nodes/node-tok1/drain')).status, 200);
  await list.getByText('node/node-tok1 is being drained').waitFor();
  assert.equal((await api('POST', '/v1/nodes/node-tok1/undrain')).status, 200);
  await list.getByText('node/node-tok1 takes new flows again').waitFor();

  await olga.getByRole('link', { name: 'Edges', exact: true }).click();
  await olga.getByRole('link', { name: 'fra2' }).click();
  await olga.getByRole('button', { name: 'Drain', exact: true }).click();
  await olga.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
  assert.equal((await api('GET', '/v1/edges/fra2')).body.draining, false);
  await olga.getByRole('button', { name: 'Drain', exact: true }).click();
  await olga.getByRole('dialog', { name: 'Drain edge fra2?' }).getByRole('button', { name: 'Drain' }).click();
  await olga.getByRole('button', { name: 'Undrain' }).click();
  assert.equal((await api('GET', '/v1/edges/fra2')).body.draining, true);
  await olga.getByRole('dialog').getByRole('button', { name: 'Undrain' }).click();
  await olga.getByRole('button', { name: 'Drain', exact: true }).waitFor();
  nothingElseWasSaid();
});

test('nobody overwrites unseen what another has changed', async () => {
  await olga.getByRole('button', { name: 'Set weight' }).click();
  assert.equal((await api('PUT', '/v1/edges/fra2/weight', { weight: 70 })).status, 200);
  const dialog = olga.getByRole('dialog', { name: 'Weight of edge fra2' });
  await dialog.getByLabel(/^Weight/).fill('50');
  await dialog.getByRole('button', { name: 'Set' }).click();
  await dialog.getByRole('alert').getByText('changed since you read it').waitFor();
  await olga.keyboard.press('Escape');
  assert.equal((await api('GET', '/v1/edges/fra2')).body.weight, 70);
  await olga.getByText('weight 70').waitFor();
  await olga.getByRole('button', { name: 'Set weight' }).click();
  await dialog.getByLabel(/^Weight/).fill('100');
  await dialog.getByRole('button', { name: 'Set' }).click();
  await olga.locator('p.done').getByText('has weight 100').waitFor();
  nothingElseWasSaid(/412/);
});

test('a rollout that halted is shown with its waves and gate, goes on, and is taken back', async () => {
  await olga.getByRole('link', { name: 'Rollouts', exact: true }).click();
  await olga.getByRole('row', { name: /asia-faster.*halted.*no such qdisc/ }).waitFor();
  await olga.getByRole('link', { name: 'asia-faster' }).click();
  await olga.getByRole('heading', { level: 1, name: 'Rollout asia-faster' }).waitFor();
  const { body } = await api('GET', '/v1/rollouts/asia-faster');
  const waves = olga.getByRole('region', { name: 'Waves' }).getByRole('row');
  await waves.getByText('halted').waitFor();
  assert.equal(await waves.getByText('to come').count(), body.waves.length - 1);
  await olga.getByRole('progressbar', { name: 'Subjects that are moved' }).waitFor();
  const moved = olga.getByRole('region', { name: 'Who was moved' }).getByRole('link');
  assert.deepEqual((await moved.allTextContents()).sort(), [...body.movedSubjects].sort());

  await olga.getByRole('button', { name: 'Resume' }).click();
  await olga.getByRole('dialog').getByRole('button', { name: 'Resume' }).click();
  await olga.locator('p.lead').getByText('soaking').waitFor();
  await olga.getByRole('row', { name: /Nodes that reject/ }).waitFor();
  await olga.getByText(/was watched for \d+ s without a break/).waitFor();
  assert.deepEqual(await barriers(olga), [], 'a rollout that is watched');
  if (pictures) await olga.screenshot({ path: `${pictures}/rollout-watched.png`, fullPage: true });
  await olga.getByRole('button', { name: 'Pause' }).click();
  await olga.getByRole('dialog').getByLabel('Reason').fill('lunch');
  await olga.getByRole('dialog').getByRole('button', { name: 'Pause' }).click();
  await olga.locator('p.lead').getByText('paused').waitFor();
  await olga.locator('p.lead').getByText('lunch').waitFor();

  await moved.first().click();
  const own = olga.getByRole('region', { name: 'Rollouts', exact: true });
  await own.getByRole('row', { name: /asia-faster.*paused.*moved/ }).waitFor();
  await own.getByRole('link', { name: 'asia-faster' }).click();
  await olga.getByRole('button', { name: 'Roll back' }).click();
  await olga.getByRole('dialog').getByRole('button', { name: 'Roll back' }).click();
  await olga.locator('p.done').getByText('was taken back').waitFor();
  await olga.getByRole('button', { name: 'Roll back' }).waitFor({ state: 'hidden' });
  assert.equal((await api('GET', '/v1/rollouts/asia-faster')).body.phase, 'rolledBack');
  nothingElseWasSaid();
});

test('an alert is shown with why, here and where it is watched for', async () => {
  await olga.getByRole('link', { name: 'Alerts', exact: true }).click();
  await olga.getByRole('row', { name: /surge.*workload\/node-ams1\/video.*external\.surge/ }).waitFor();
  await olga.getByRole('link', { name: 'workload/node-ams1/video' }).click();
  const alerts = olga.getByRole('region', { name: 'Alerts', exact: true });
  await alerts.getByRole('row', { name: /surge.*raised/ }).waitFor();
  await alerts.getByRole('row', { name: /memory-high.*quiet/ }).waitFor();
  nothingElseWasSaid();
});

test('an edge is taken into maintenance with a reason, and out of it', async () => {
  await olga.getByRole('link', { name: 'Edges', exact: true }).click();
  await olga.getByRole('link', { name: 'fra3' }).click();
  await olga.getByRole('button', { name: 'Maintenance' }).click();
  const dialog = olga.getByRole('dialog', { name: 'Take edge fra3 into maintenance?' });
  await dialog.getByLabel('Reason').fill('new fans');
  await dialog.getByRole('button', { name: 'Begin' }).click();
  await olga.locator('p.lead').getByText('in maintenance').waitFor();
  await olga.locator('p.lead').getByText(': new fans').waitFor();
  await olga.getByRole('button', { name: 'End maintenance' }).click();
  await olga.getByRole('dialog').getByRole('button', { name: 'End', exact: true }).click();
  await olga.getByRole('button', { name: 'Maintenance', exact: true }).waitFor();
  assert.equal((await api('GET', '/v1/edges/fra3')).body.maintenance, null);
  nothingElseWasSaid();
});

test('a change without the page’s own header is refused, and a foreign script does not run', async () => {
  const status = await olga.evaluate(() =>
    fetch('/v1/edges/fra1/drain', { method: 'POST' }).then((it) => it.status),
  );
  assert.equal(status, 403);
  assert.equal((await api('GET', '/v1/edges/fra1')).body.draining, false);
  nothingElseWasSaid(/403/);
  await olga
    .evaluate(() => {
      const script = document.createElement('script');
      script.src = 'https://127.0.0.1:1/evil.js';
      document.head.append(script);
    })
    .catch(() => undefined);
  await assert.rejects(
    olga.evaluate(() => {
      const div = document.createElement('div');
      div.innerHTML = '<b>x</b>';
    }),
    /TrustedHTML/,
  );
  // Breaches are noticed: what other tests find none of is found here.
  for (const of of ['TrustedScriptURL', 'TrustedHTML', 'policy: require-trusted-types-for']) {
    const isThere = () => complaints.some((it) => it.includes(of));
    for (let wait = 0; wait < PATIENCE && !isThere(); wait += 50) await olga.waitForTimeout(50);
    assert.ok(isThere(), `${of}: ${complaints}`);
  }
  await olga.waitForTimeout(200);
  complaints.splice(0);
});

test('a viewer sees no actions, and an administrator the sessions', async () => {
  const vera = await someone();
  await paste(vera, variable('PERSONA_VIEWER'));
  await vera.goto(`${url.origin}/ui/edges/fra1`);
  await vera.getByRole('heading', { level: 2, name: 'Who hears it' }).waitFor();
  assert.deepEqual(await vera.getByRole('main').getByRole('button').allTextContents(), []);
  await vera.goto(`${url.origin}/ui/subjects/workload/node-fra1/web`);
  await vera.getByRole('list', { name: 'Personas considered' }).waitFor();
  assert.deepEqual(await vera.getByRole('main').getByRole('button').allTextContents(), []);
  assert.equal(await vera.getByRole('link', { name: 'Sessions' }).count(), 0);

  const ada = await someone();
  await paste(ada, variable('PERSONA_ADMIN'));
  await ada.getByRole('link', { name: 'Sessions' }).click();
  await ada
    .getByRole('row', { name: /access\/vera/ })
    .getByRole('button')
    .click();
  await ada.getByRole('dialog').getByRole('button', { name: 'End' }).click();
  await vera.getByRole('alert').getByText('Your session has ended').waitFor();
  await vera.context().close();
  await ada.context().close();
  nothingElseWasSaid(/401/);
});

/** Every view, by its path and something that is there when it has been read. */
const VIEWS = [
  ['', 'fleet', 'group', 'Map of the fleet'],
  ['edges', 'edges', 'link', 'fra1'],
  ['edges/fra1', 'edge', 'heading', 'Who hears it'],
  ['nodes', 'nodes', 'link', 'node-fra1'],
  ['nodes/node-fra1', 'node', 'heading', 'What runs on it'],
  ['workloads', 'workloads', 'link', 'node-fra1/web'],
  ['subjects/workload/node-ams1/video', 'subject', 'heading', 'Edges considered'],
  ['personas', 'personas', 'link', 'europe-standard'],
  ['personas/europe-standard', 'persona', 'heading', 'Who wears it'],
  ['rollouts', 'rollouts', 'link', 'asia-faster'],
  ['rollouts/asia-faster', 'rollout', 'heading', 'What its gate sees'],
  ['alerts', 'alerts', 'link', 'workload/node-ams1/video'],
  ['pools', 'pools', 'cell', 'fra'],
  ['events', 'events', 'button', 'Hold'],
  ['sessions', 'sessions', 'row', /access\/ada/],
];

/** What is wrong with a page for those who cannot see or point. @param {import('playwright-core').Page} page */
async function barriers(page) {
  await page.evaluate(axe.source);
  const found = await page.evaluate(async () => {
    // @ts-expect-error: axe came in by the line before
    const { violations } = await globalThis.axe.run();
    /** @param {any} it */
    const told = (it) => `${it.id}: ${it.nodes.map((/** @type {any} */ node) => node.html).join(' | ')}`;
    return violations.map(told);
  });
  return found;
}

for (const [scheme, width, height] of /** @type {const} */ ([
  ['light', 1280, 900],
  ['dark', 1280, 900],
  ['light', 360, 740],
  ['dark', 3840, 2160],
])) {
  test(`no barriers in ${scheme}, ${width} wide`, async () => {
    const page = await someone({ colorScheme: scheme, viewport: { width, height } });
    await page.goto(`${url.origin}/ui/`);
    await page.getByLabel('Or paste an access token').waitFor();
    assert.deepEqual(await barriers(page), [], 'login');
    if (pictures) await page.screenshot({ path: `${pictures}/login-${scheme}-${width}.png` });
    nothingElseWasSaid(/401/);
    await paste(page, variable('PERSONA_ADMIN'));
    for (const [path, name, role, word] of VIEWS) {
      await page.goto(`${url.origin}/ui/${path}`);
      // @ts-expect-error: the roles are literals in the table above
      await page.getByRole(role, { name: word, exact: true }).first().waitFor();
      const spilt = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(spilt <= 0, `${name} is ${spilt} pixels wider than the screen`);
      assert.deepEqual(await barriers(page), [], String(name));
      if (pictures) await page.screenshot({ path: `${pictures}/${name}-${scheme}-${width}.png` });
    }
    await page.context().close();
    nothingElseWasSaid(/401/);
  });
}

test('the keyboard leads to the content, and out', async () => {
  await olga.goto(`${url.origin}/ui/`);
  await olga.getByRole('heading', { level: 1, name: 'Fleet' }).waitFor();
  await olga.keyboard.press('Tab');
  assert.equal(await olga.evaluate(() => document.activeElement?.textContent), 'To the content');
  await olga.keyboard.press('Enter');
  await olga.getByRole('button', { name: 'Log out' }).focus();
  await olga.keyboard.press('Enter');
  await olga.getByLabel('Or paste an access token').waitFor();
  assert.deepEqual(await olga.context().cookies(), []);
  await olga.goto(`${url.origin}/ui/edges`);
  await olga.getByLabel('Or paste an access token').waitFor();
  nothingElseWasSaid(/401/);
});
