/** The IPAM's part of the admin API. */
import express from 'express';
import type { AddressBook } from './address-book.ts';
import { decodeFindings, decodeHost } from './schema.ts';

export function ipamRoutes(book: AddressBook): express.Router {
  return express
    .Router()
    .get('/pools', async (_request, response) => {
      response.json(await book.pools());
    })
    .get('/leases', async (request, response) => {
      const { pool } = request.query;
      response.json(await book.leases(typeof pool === 'string' ? pool : ''));
    })
    .get('/addresses/:address', async (request, response) => {
      response.json(await book.show(request.params.address));
    })
    .get('/check', async (_request, response) => {
      response.json(await book.check());
    })
    .get('/hosts', (_request, response) => {
      response.json(book.cluster());
    })
    .post('/forget', async (request, response) => {
      response.json(await book.forgetHost(decodeHost(request.body).host));
    })
    .post('/release', async (request, response) => {
      response.json(await book.release(decodeFindings(request.body)));
    });
}
