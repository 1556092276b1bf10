/** What all replicas of a node share: bounds on what waits, and counts. */
export type NodeBudget = {
  /** Of commands that wait to be proposed, in all groups. */
  pendingBytes: number;
  /** Commands proposed, and refused because too much waited; since the start. */
  proposed: number;
  rejected: number;
};

export const newBudget = (): NodeBudget => ({ pendingBytes: 0, proposed: 0, rejected: 0 });
