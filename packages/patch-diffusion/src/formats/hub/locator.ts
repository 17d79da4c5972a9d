/** Addresses of networks: plain `http(s)://` ones, and `hf:owner/repo/path[@revision]` on the Hugging Face Hub. */
import { UserError } from '../../common/errors.js';
import { withoutSecrets } from '../../common/secrets.js';

const DEFAULT_ENDPOINT = 'https://huggingface.co';

/** Where to fetch a file. */
export interface RemoteFile {
  /** As the user wrote it, but for secrets: for messages and records. */
  readonly text: string;
  readonly url: URL;
  /** Sent to the first host only, never to one that it redirects to. */
  readonly token: string | null;
}

/** Is this an address rather than a path? */
export function isRemote(text: string): boolean {
  return /^(https?:\/\/|hf:)/i.test(text);
}

/** `HF_TOKEN`; line breaks around it come from files. @throws UserError when it cannot be a token; without its text */
function tokenOf(env: NodeJS.ProcessEnv): string | null {
  const token = (env.HF_TOKEN ?? '').trim();
  if (/^[\x21-\x7e]*$/.test(token)) return token || null;
  throw new UserError(
    'BAD_TOKEN',
    'HF_TOKEN is not a token: it contains blanks, line breaks or other characters that none has; set it again, or unset it',
    { exitCode: 2 },
  );
}

/**
 * Reads an address. `HF_ENDPOINT` replaces the Hub's base address, `HF_TOKEN` gives access to private repositories.
 * @throws UserError when it is malformed
 */
export function parseLocator(text: string, env: NodeJS.ProcessEnv = process.env): RemoteFile {
  if (!/^hf:/i.test(text)) {
    if (!URL.canParse(text)) throw malformed(text, 'write it as https://host/path');
    const url = new URL(text);
    if (url.username || url.password) throw malformed(text, 'leave user name and password out of it');
    return { text: withoutSecrets(text), url, token: null };
  }
  const [, path = '', revision = 'main'] = /^hf:(?:\/\/)?([^@]*)(?:@(.+))?$/i.exec(text) ?? [];
  const parts = path.split('/');
  const isClean = parts.every((part) => part !== '' && part !== '.' && part !== '..');
  if (parts.length < 3 || !isClean)
    throw malformed(text, 'write it as hf:owner/repository/path/to/file[@revision]');
  const [owner, repository, ...file] = parts.map(encodeURIComponent);
  const base = (env.HF_ENDPOINT || DEFAULT_ENDPOINT).replace(/\/+$/, '');
  const address = `${base}/${owner}/${repository}/resolve/${encodeURIComponent(revision)}/${file.join('/')}`;
  const url = URL.canParse(address) ? new URL(address) : null;
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.password || /[?#]/.test(base))
    throw malformed(base, 'set HF_ENDPOINT to an address such as https://host');
  return { text, url, token: tokenOf(env) };
}

function malformed(text: string, remedy: string): UserError {
  return new UserError('BAD_ADDRESS', `${withoutSecrets(text)} is not a usable address; ${remedy}`, {
    exitCode: 2,
  });
}
