'use strict';
// An Express application behind serverless-http; events have API Gateway's format 2.0.

const express = require('express');
const serverless = require('serverless-http');

const app = express();
app.use(express.json());
app.get('/orders/:id', (request, response) => response.json({ id: request.params.id, state: 'shipped' }));
app.post('/orders', (request, response) => response.status(201).json(request.body));

const handle = serverless(app);

exports.handler = async (event, context) => {
  if (event.sleep_ms) await new Promise((resolve) => setTimeout(resolve, event.sleep_ms));
  return handle(event, context);
};
