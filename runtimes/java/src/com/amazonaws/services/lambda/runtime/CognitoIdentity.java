package com.amazonaws.services.lambda.runtime;

/** The Amazon Cognito identity that called. */
public interface CognitoIdentity {
    String getIdentityId();

    String getIdentityPoolId();
}
