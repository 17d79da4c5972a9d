/**
 * Who may ask the studio. Pages of other sites, which a browser lets send requests to this machine, are refused: by
 * the Host header (a name that was bent to this address), by Origin and Sec-Fetch-Site (their own name), and by
 * headers that keep what is shown out of their frames. Where other machines or users can reach the server, a token
 * is asked for as well: it is in the link that the command prints, and a cookie afterwards.
 */
import { timingSafeEqual } from 'node:crypto';
import { hostname, networkInterfaces } from 'node:os';
import type { Context, MiddlewareHandler } from 'hono';
import { getCookie, setCookie } from 'hono/cookie';

/** What the pages may load: files of this server, nothing else. */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  // WebAssembly, which draws in the page; no `eval`.
  "script-src 'self' 'wasm-unsafe-eval'",
  "worker-src 'self'",
  "style-src 'self'",
  "img-src 'self' blob: data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const HEADERS: Readonly<Record<string, string>> = {
  'Content-Security-Policy': CONTENT_SECURITY_POLICY,
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
};

/** Addresses that only this machine reaches. */
export const isLoopback = (host: string): boolean => /^(localhost|127(\.\d+){3}|::1)$/.test(host);

/** Every address, or a family's. */
const isWildcard = (host: string): boolean => host === '0.0.0.0' || host === '::';

/** Names that this server answers to: Host headers, without the port. */
function namesOf(host: string): Set<string> {
  const own = isWildcard(host)
    ? [
        hostname(),
        ...Object.values(networkInterfaces())
          .flatMap((list) => list ?? [])
          .map((one) => one.address),
      ]
    : [host];
  const names = ['localhost', '127.0.0.1', '::1', ...own].map((name) => name.toLowerCase());
  return new Set(names.map((name) => (name.includes(':') ? `[${name}]` : name)));
}

export interface GuardOptions {
  /** Address that the server listens on. */
  readonly host: string;
  readonly port: number;
  /** Null: none is asked for. */
  readonly token: string | null;
}

/** Refuses what does not come from the studio's own pages, and sets the headers of all answers. */
export function guard({ host, port, token }: GuardOptions): MiddlewareHandler {
  const hosts = new Set([...namesOf(host)].map((name) => `${name}:${port}`));
  const cookie = `studio-${port}`;
  const refuse = (c: Context, status: 401 | 403, error: string) => c.json({ error }, status);
  return async (c, next) => {
    for (const [name, value] of Object.entries(HEADERS)) c.header(name, value);
    const asked = c.req.header('host')?.toLowerCase() ?? '';
    if (!hosts.has(asked)) return refuse(c, 403, `this server does not answer to the name ${asked}`);
    const origin = c.req.header('origin');
    if (origin !== undefined && origin !== `http://${asked}`)
      return refuse(c, 403, `requests of other sites (${origin}) are refused`);
    const site = c.req.header('sec-fetch-site') ?? 'none';
    // A link to the studio may stand anywhere; it leads to the start page and changes nothing.
    const isLink =
      c.req.method === 'GET' && c.req.path === '/' && c.req.header('sec-fetch-mode') === 'navigate';
    if (site !== 'same-origin' && site !== 'none' && !isLink)
      return refuse(c, 403, 'requests of other sites are refused');
    if (token !== null) {
      const given = c.req.query('token');
      if (c.req.path === '/' && given !== undefined && isEqual(given, token)) {
        // Out of the address, so that it is neither copied nor kept in the history.
        setCookie(c, cookie, token, { httpOnly: true, sameSite: 'Strict', path: '/' });
        return c.redirect('/');
      }
      if (!isEqual(getCookie(c, cookie) ?? '', token))
        return refuse(c, 401, 'open the link with the token that the command has printed');
    }
    return next();
  };
}

function isEqual(given: string, token: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(token)];
  return a.length === b.length && timingSafeEqual(a, b);
}
