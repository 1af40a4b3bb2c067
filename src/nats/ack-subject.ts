/**
 * Owns reading the reply subject of a delivery, in which the server tells its place:
 * `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time>.<pending>`, or with domain and account
 * before the stream (NATS ADR-15). Pure; used by the two consumers, on each message.
 */
export interface DeliveryPlace {
  /** Of the stream. */
  seq: number;
  /** The how-manieth delivery of the consumer this is; the server counts them. */
  delivered: number;
  /** When the stream stored the message, in Unix nanoseconds. */
  timeNs: string;
  /** How many messages the stream has beyond this one. */
  pending: number;
}

export function parseAckSubject(reply: string): DeliveryPlace {
  const tokens = reply.split(".");
  const base = tokens.length > 9 ? 4 : 2;
  return {
    seq: Number(tokens[base + 3]),
    delivered: Number(tokens[base + 4]),
    timeNs: tokens[base + 5]!,
    pending: Number(tokens[base + 6]),
  };
}
