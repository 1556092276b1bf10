/** Settings of rate limits and quotas; the same in every program that serves HTTP. */
export const limitsSettings = {} as const;
