/** A logarithmic axis: how far it goes, and at which round numbers it has its lines. */

/** Both ends with a twelfth of room beside the marks. @param values positive */
export function logDomain(values: readonly number[]): [number, number] {
  const [least, greatest] = [Math.min(...values), Math.max(...values)];
  const room = (greatest / least) ** (1 / 12);
  return [least / room, greatest * room];
}

/** Round numbers inside, the nearest to `anchor` first, none closer to another than its label is wide. @param width in pixels */
export function logTicks([low, high]: [number, number], width: number, anchor: number, label = 34): number[] {
  const at = (value: number): number => (Math.log(value / low) / Math.log(high / low)) * width;
  const chosen: number[] = [];
  for (const steps of STEPS) {
    for (const tick of roundNumbers(low, high, steps).sort((a, b) => Math.abs(Math.log(a / anchor)) - Math.abs(Math.log(b / anchor)))) {
      if (chosen.every((other) => Math.abs(at(other) - at(tick)) >= label)) chosen.push(tick);
    }
  }
  return chosen.sort((a, b) => a - b);
}

/** Rounder ones first. */
const STEPS = [[1], [2, 5], [1.25, 1.5, 3, 7], [1.1, 1.2, 4, 6, 8, 9], [1.05, 9.5]];

function roundNumbers(low: number, high: number, steps: readonly number[]): number[] {
  const numbers: number[] = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const step of steps) {
      // 0.7, not 0.7000000000000001
      const value = Number((step * 10 ** power).toPrecision(4));
      if (value >= low && value <= high) numbers.push(value);
    }
  }
  return numbers;
}
