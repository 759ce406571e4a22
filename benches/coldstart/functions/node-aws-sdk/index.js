'use strict';
// The SDK's clients loaded and constructed at init.

const { S3Client, GetObjectCommand } = require('@aws-sdk/client-s3');
const { DynamoDBClient } = require('@aws-sdk/client-dynamodb');
const { DynamoDBDocumentClient } = require('@aws-sdk/lib-dynamodb');

const s3 = new S3Client({});
const table = DynamoDBDocumentClient.from(new DynamoDBClient({}));

exports.handler = async (event) => {
  if (event.sleep_ms) await new Promise((resolve) => setTimeout(resolve, event.sleep_ms));
  const command = new GetObjectCommand({ Bucket: 'orders', Key: '17' });
  return { region: await s3.config.region(), key: command.input.Key, table: table.config.serviceId };
};
