/** One GET that follows redirects itself: the first answers carry the Hub's checksum, and a token stays with its host. */
import { UserError } from '../../common/errors.js';
import type { RemoteFile } from './locator.js';

const MAX_REDIRECTS = 10;

/** An answer, and what the hosts on the way said of the file. */
export interface Answer {
  readonly response: Response;
  /** The version of the file: the Hub's own where it gives one, else that of the last host. Without quotes. */
  readonly etag: string | null;
  /** The last host's, as it must be repeated in `If-Range`. */
  readonly rawEtag: string | null;
}

/** @throws TypeError (of `fetch`) when the host cannot be reached; UserError when it leads from https to http */
export async function get(
  remote: RemoteFile,
  headers: Record<string, string>,
  signal: AbortSignal,
): Promise<Answer> {
  let url = remote.url;
  let linked: string | null = null;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const isHome = url.origin === remote.url.origin;
    const authorization: Record<string, string> =
      remote.token !== null && isHome ? { authorization: `Bearer ${remote.token}` } : {};
    // Compressed transfer would make ranges and lengths mean something else.
    const response = await fetch(url, {
      headers: { 'accept-encoding': 'identity', ...headers, ...authorization },
      redirect: 'manual',
      signal,
    });
    linked ??= response.headers.get('x-linked-etag');
    const location = response.headers.get('location');
    if (response.status < 300 || response.status > 399 || response.status === 304 || location === null) {
      const rawEtag = response.headers.get('etag');
      return { response, etag: unquoted(linked ?? rawEtag), rawEtag };
    }
    await response.body?.cancel();
    const next = new URL(location, url);
    if (!/^https?:$/.test(next.protocol)) throw new TypeError(`redirected to ${next.protocol}`);
    if (url.protocol === 'https:' && next.protocol === 'http:') {
      throw new UserError(
        'INSECURE_REDIRECT',
        `${url.host} redirects ${remote.text} from https to http, where anybody on the way can alter it; use another address`,
      );
    }
    url = next;
  }
  throw new TypeError(`more than ${MAX_REDIRECTS} redirects`);
}

/** `W/"abc"` → `abc` */
function unquoted(etag: string | null): string | null {
  return etag === null ? null : etag.replace(/^W\//, '').replace(/^"(.*)"$/, '$1');
}

/** The SHA-256 that an etag is, on hosts where it is one. */
export function sha256FromEtag(etag: string | null): string | null {
  return etag !== null && /^[0-9a-f]{64}$/i.test(etag) ? etag.toLowerCase() : null;
}
