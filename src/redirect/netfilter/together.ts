/** Pieces of work side by side, of which each is brought to its end whatever becomes of the others. */

/** @throws the fault of the first of them that failed, when all have ended */
export async function together(...work: Promise<unknown>[]): Promise<void> {
  const failed = (await Promise.allSettled(work)).find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}
