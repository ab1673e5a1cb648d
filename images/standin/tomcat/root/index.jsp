<%@ page session="false" contentType="text/plain; charset=UTF-8" %>This server has one application: /demo/
