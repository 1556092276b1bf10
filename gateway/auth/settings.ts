/** Settings of authentication; the same in every program that serves HTTP. */
export const authSettings = {} as const;
