/** A resource made of an object, with what was wrong in it. */
import type { ResourceContent } from '../resources.ts';

export interface Rendered extends ResourceContent {
  /** addresses that should be nobody else's, "network/address" */
  claims: readonly string[];
}
