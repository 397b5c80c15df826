/** The application under load, a program of its own in a pod: answers every request with the pod's name, and never ends a connection. */
import { createServer } from 'node:http';
import { hostname } from 'node:os';

const server = createServer((_request, response) => response.end(hostname()));
server.keepAliveTimeout = 0;
server.listen({ port: 8080, host: '::', backlog: 1024 });
process.on('SIGTERM', () => process.exit(0));
