/** Which of a machine's addresses other machines reach it at. */
import { createSocket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { once } from 'node:events';

/**
 * The address of this machine on the way to another one, as the system's routes say; nothing is sent. Many machines resolve
 * their own name to a loopback address, which others cannot reach.
 * @returns null where there is no way to `host`
 */
export async function ownAddress(host: string, port: number): Promise<string | null> {
  try {
    const { address, family } = await lookup(host);
    const socket = createSocket(family === 6 ? 'udp6' : 'udp4');
    try {
      socket.connect(port, address);
      await once(socket, 'connect');
      return socket.address().address;
    } finally {
      socket.close();
    }
  } catch {
    return null;
  }
}
