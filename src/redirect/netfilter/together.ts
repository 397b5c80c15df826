/** Pieces of work side by side, of which each is brought to its end whatever becomes of the others. */

/** @throws the fault of the first of them that failed, when all have ended */
export async function together(...work: Promise<unknown>[]): Promise<void> {
  const failed = (await Promise.allSettled(work)).find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}

/** Some at a time, until `goOn` says no; `failed` hears of each that throws. Never rejects. */
export async function someAtATime<T>(
  atOnce: number,
  all: Iterable<T>,
  action: (each: T) => Promise<void>,
  { goOn, failed }: { goOn: () => boolean; failed: (each: T, error: unknown) => void },
): Promise<void> {
  const left = [...all];
  const work = async (): Promise<void> => {
    for (let next = left.shift(); next !== undefined && goOn(); next = left.shift()) {
      const each = next;
      await action(each).catch((error: unknown) => {
        failed(each, error);
      });
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
}
