/** Keeps the secrets of addresses (signatures, tokens, passwords) out of files and messages. */

/**
 * An address without user name, password, query and fragment, which is where secrets are. Other text stays as it is.
 */
export function withoutSecrets(address: string): string {
  if (!/^\s*https?:/i.test(address)) return address;
  if (!URL.canParse(address)) return address.replace(/[?#].*$/s, '').replace(/\/\/.*@/s, '//');
  const { protocol, host, pathname } = new URL(address);
  return `${protocol}//${host}${pathname}`;
}
