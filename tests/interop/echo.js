// npm's ws as a client (`echo.js client URL`) or as an echo server (`echo.js server`, which prints its port).
'use strict';

const WebSocket = require('ws');
const assert = require('assert');

function client(url) {
  const sent = ['text', 'grüße 🌍', Buffer.from([0, 1, 254, 255]), Buffer.alloc(200000, 7), ''];
  const socket = new WebSocket(url, { perMessageDeflate: { threshold: 0 } });
  let received = 0;
  socket.on('open', () => sent.forEach((message) => socket.send(message)));
  socket.on('message', (data, isBinary) => {
    const expected = sent[received++];
    assert.strictEqual(isBinary, typeof expected !== 'string');
    assert.deepStrictEqual(data, Buffer.from(expected));
    if (received === sent.length) socket.ping('ping');
  });
  socket.on('pong', (data) => {
    assert.strictEqual(data.toString(), 'ping');
    socket.close(1000, 'done');
  });
  socket.on('close', (code) => {
    assert.strictEqual(code, 1000);
    assert.strictEqual(received, sent.length);
    console.log(socket.extensions);
  });
}

function server() {
  const listener = new WebSocket.Server({ host: '127.0.0.1', port: 0, perMessageDeflate: true });
  listener.on('connection', (socket) => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
  listener.on('listening', () => console.log(listener.address().port));
}

if (process.argv[2] === 'client') client(process.argv[3]);
else server();
