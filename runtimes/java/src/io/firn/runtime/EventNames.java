package io.firn.runtime;

import java.util.Locale;

/**
 * How members of the classes of aws-lambda-java-events are called in JSON. Those classes follow JavaBeans and the
 * services do not, so AWS's runtime has a table of exceptions. Reading is more lenient here: case and punctuation of
 * names do not count.
 */
final class EventNames {
    private static final String EVENTS = "com.amazonaws.services.lambda.runtime.events.";

    private EventNames() {}

    static boolean isEvent(Class<?> type) {
        String name = type.getName();
        return name.startsWith(EVENTS)
                || name.startsWith("com.amazonaws.services.s3.event.")
                || name.startsWith("com.amazonaws.services.dynamodbv2.model.");
    }

    /** The name with everything removed that the services and JavaBeans disagree on. */
    static String loose(String name) {
        StringBuilder loose = new StringBuilder(name.length());
        for (int i = 0; i < name.length(); i++) {
            char c = name.charAt(i);
            if (Character.isLetterOrDigit(c)) {
                loose.append(Character.toLowerCase(c));
            }
        }
        return loose.toString();
    }

    /** The name to write. */
    static String of(Class<?> type, String property) {
        String name = type.getName();
        String simple = name.substring(name.lastIndexOf('.') + 1);
        switch (simple) {
            case "AttributeValue":
                return property.toUpperCase(Locale.ROOT);
            case "StreamRecord":
            case "SNSEvent":
            case "SNSEvent$SNS":
            case "SNSEvent$MessageAttribute":
            case "ConnectEvent":
            case "ConnectEvent$Details":
            case "ConnectEvent$CustomerEndpoint":
            case "ConnectEvent$SystemEndpoint":
            case "CloudFormationCustomResourceEvent":
            case "SecretsManagerRotationEvent":
                return capitalized(property);
            case "ConnectEvent$ContactData":
                return property.equals("instanceArn") ? "InstanceARN" : capitalized(property);
            case "SNSEvent$SNSRecord":
                return property.equals("SNS") ? "Sns" : capitalized(property);
            default:
                return special(property);
        }
    }

    private static String special(String property) {
        switch (property) {
            case "records":
                return "Records";
            case "eventSourceArn":
                return "eventSourceARN";
            case "userIdentityArn":
                return "userIdentityARN";
            case "codeCommit":
                return "codecommit";
            case "codePipelineJob":
                return "CodePipeline.job";
            case "detailType":
                return "detail-type";
            case "awsLogs":
                return "awslogs";
            default:
                return property;
        }
    }

    private static String capitalized(String property) {
        return property.substring(0, 1).toUpperCase(Locale.ROOT) + property.substring(1);
    }
}
