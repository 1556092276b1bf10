/** Long work in steps: what other groups and clients want comes in between. */

/** Resolves when everything that waits for the event loop now has had its turn. */
export const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
