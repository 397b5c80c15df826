/** What an ADS server has done since it began. */
export interface AdsCounters {
  /** streams that were let in */
  streams: number;
  /** callers without a good token, or of a wrong account */
  refused: number;
  /** changes of the mesh that were pushed, however many streams got each */
  pushes: number;
  /** messages sent, and their bytes before TLS */
  responses: number;
  bytes: number;
  /** responses that clients refused */
  nacks: number;
}
