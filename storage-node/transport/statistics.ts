/** What passed between this node and one peer: plain counters, for metrics. */

export type PeerStatistics = {
  framesSent: number;
  framesReceived: number;
  messagesSent: number;
  messagesReceived: number;
  /** Of frames, without what gRPC adds. */
  bytesSent: number;
  bytesReceived: number;
  /** Messages that did not fit into a lane's queue, or waited too long for a connection. */
  messagesDropped: number;
  /** Received messages that were of another node's replica, or for one. */
  messagesMisaddressed: number;
  /** Bytes that wait in the lanes now. */
  queuedBytes: number;
  /** How often a connection with both lanes came about. */
  connects: number;
};

export function createStatistics(): PeerStatistics {
  return {
    framesSent: 0,
    framesReceived: 0,
    messagesSent: 0,
    messagesReceived: 0,
    bytesSent: 0,
    bytesReceived: 0,
    messagesDropped: 0,
    messagesMisaddressed: 0,
    queuedBytes: 0,
    connects: 0,
  };
}
