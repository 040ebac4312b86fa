// Figures for people: short, with their unit, and the same everywhere on the page.

const STEPS = ['', 'k', 'M', 'G', 'T'];

function scaled(value: number): [string, string] {
  let [rest, step] = [value, 0];
  while (rest >= 999.5 && step < STEPS.length - 1) {
    rest /= 1000;
    step += 1;
  }
  const digits = rest >= 100 || step === 0 ? 0 : rest >= 10 ? 1 : 2;
  return [rest.toFixed(digits), STEPS[step] ?? ''];
}

/** Bits per second. */
export function bitRate(value: number): string {
  const [figure, step] = scaled(value);
  return `${figure} ${step}bit/s`;
}

/** A count of something, with what it is per, such as `/s`. */
export function count(value: number, unit = ''): string {
  const [figure, step] = scaled(value);
  return `${figure}${step && ` ${step}`}${unit}`;
}

/** A share of a whole; 1 is all of it. */
export function share(value: number): string {
  const percent = value * 100;
  if (percent > 0 && percent < 0.1) return '< 0.1 %';
  return `${percent.toFixed(percent < 10 && percent > 0 ? 1 : 0)} %`;
}

/** Microseconds as milliseconds. */
export function milliseconds(us: number): string {
  const ms = us / 1000;
  return `${ms.toFixed(ms < 10 ? 2 : ms < 100 ? 1 : 0)} ms`;
}

/** A span of time, in its largest unit that says something. */
export function span(ms: number): string {
  const steps: [number, string][] = [
    [86_400_000, 'd'],
    [3_600_000, 'h'],
    [60_000, 'min'],
    [1_000, 's'],
  ];
  const step = steps.find(([length]) => ms >= length);
  return step ? `${Math.floor(ms / step[0])} ${step[1]}` : 'now';
}

/** How long ago, or in how long, something is, seen from `now`. */
export function distance(ms: number, now: number): string {
  const text = span(Math.abs(now - ms));
  if (text === 'now') return text;
  return ms <= now ? `${text} ago` : `in ${text}`;
}

/** A time of the day, with the day where that is another. */
export function clock(ms: number, now: number): string {
  const time = new Date(ms);
  const text = time.toLocaleTimeString('en-GB');
  const isToday = time.toDateString() === new Date(now).toDateString();
  return isToday ? text : `${time.toLocaleDateString('en-CA')} ${text}`;
}

/** Something and its number, in words. */
export function many(number: number, one: string, more = `${one}s`): string {
  return `${number.toLocaleString('en')} ${number === 1 ? one : more}`;
}
