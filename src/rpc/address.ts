/** Where a control plane listens, as people write it: "https://host:port", "host:port", "[fd00::1]:15012". */
import { isIP } from 'node:net';
import { CulvertError } from '../base/errors.ts';

export interface ControlPlaneAddress {
  /** for people: always with scheme and port */
  url: string;
  /** name or address, without brackets */
  host: string;
  /** of grpc: "dns:host:port"; its resolver takes literals too */
  target: string;
}

const HTTPS_PORT = 443;

/** @throws CONFIG_INVALID; also for "http://": tokens and keys are never sent in the clear */
export function parseControlPlaneAddress(text: string): ControlPlaneAddress {
  const refuse = (why: string): CulvertError => new CulvertError('CONFIG_INVALID', `read control plane's address "${text}": ${why}`);
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text)?.[1]?.toLowerCase();
  if (scheme !== undefined && scheme !== 'https') throw refuse(`${scheme} is not spoken, only https`);
  let url: URL;
  try {
    url = new URL(scheme === undefined ? `https://${text}` : text);
  } catch {
    throw refuse('must be https://host:port');
  }
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '' || url.username !== '' || url.password !== '') {
    throw refuse('must be https://host:port and nothing more');
  }
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  const port = url.port === '' ? HTTPS_PORT : Number(url.port);
  if (port === 0) throw refuse('port 0');
  const authority = isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
  return { url: `https://${authority}`, host, target: `dns:${authority}` };
}
